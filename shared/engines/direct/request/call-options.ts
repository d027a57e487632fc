// The options of a call that differ by wire.
import type { LanguageModelV4CallOptions } from '@ai-sdk/provider';
import { isNative, isStrict } from '../../answer-schema.ts';
import type { TurnInput } from '../../engine.ts';
import { isProviderName, type Wire } from '../../provider-names.ts';

type CallOptions = Pick<LanguageModelV4CallOptions, 'maxOutputTokens' | 'providerOptions'>;

/**
 * Anthropic's API requires an output limit. This one includes thinking; the SDK lowers it for models with a known
 * smaller limit. Other providers use the limit of the model.
 */
const ANTHROPIC_OUTPUT_TOKENS_MAX = 32_000;

const CALL_OPTIONS: Readonly<Record<Wire, CallOptions>> = {
  anthropic: { maxOutputTokens: ANTHROPIC_OUTPUT_TOKENS_MAX },
  // The gateway stores the conversation, so the provider need not store it.
  responses: { providerOptions: { openai: { store: false } } },
  google: {},
  chat: {},
};

/** A caller that sets how much the model reasons also receives the reasoning. */
const THOUGHTS: CallOptions = { providerOptions: { google: { thinkingConfig: { includeThoughts: true } } } };

/** Where the SDK reads the options of the wires of OpenAI. */
const OPTION_NAMES: Readonly<Partial<Record<Wire, string>>> = { responses: 'openai', chat: 'openaiCompatible' };

interface CalledTurn extends Pick<TurnInput, 'outputSchema' | 'settings'> {
  readonly cacheKey: string | undefined;
}

export function callOptions(
  { provider, wire }: { readonly provider: string; readonly wire: Wire },
  { outputSchema, settings, cacheKey }: CalledTurn,
): CallOptions {
  const own = CALL_OPTIONS[wire];
  const name = OPTION_NAMES[wire];
  // The SDK has a list of OpenAI's models that reason, but not of those of other servers.
  const isReasoning = settings?.reasoning !== undefined && settings.reasoning !== 'off';
  if (wire === 'google' && isReasoning) return THOUGHTS;
  // The tool of the SDK has the whole schema.
  if (wire === 'anthropic' && outputSchema !== undefined && !isNative(outputSchema))
    return { ...own, providerOptions: { anthropic: { structuredOutputMode: 'jsonTool' } } };
  if (name === undefined) return own;
  const options = {
    ...own.providerOptions?.[name],
    ...(outputSchema !== undefined && { strictJsonSchema: isStrict(outputSchema) }),
    ...(cacheKey !== undefined && { promptCacheKey: cacheKey }),
    ...(wire === 'responses' && !isProviderName(provider) && isReasoning && { forceReasoning: true }),
  };
  return { ...own, providerOptions: { [name]: options } };
}
