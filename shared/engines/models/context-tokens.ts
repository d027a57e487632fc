// The token budget for the input of a model.
import type { Config } from '../../config/config.ts';

interface Row {
  /** Prefix of a model name, with `provider/`. */
  readonly prefix: string;
  readonly tokens: number;
}

/** Lower than every known context window of the provider, minus the answer. Longer prefixes first. */
const ROWS: readonly Row[] = [
  { prefix: 'anthropic/', tokens: 150_000 },
  { prefix: 'openai/gpt-6', tokens: 250_000 },
  { prefix: 'openai/gpt-5', tokens: 250_000 },
  { prefix: 'openai/', tokens: 96_000 },
  { prefix: 'google/', tokens: 500_000 },
  { prefix: 'codex/', tokens: 200_000 },
];

const UNKNOWN_TOKENS = 96_000;

/**
 * Token budget of the input (instructions and messages) of a model in `provider/model` form: the operator's setting for
 * the model, minus the tokens reserved for the answer; else a row of the table. It is lower than the documented window,
 * because tokens are estimated before the call.
 */
export function contextTokens(model: string, models?: Config['models']): number {
  const { context_tokens: windowTokens, max_output_tokens: outputTokens } = models?.get(model) ?? {};
  if (windowTokens !== undefined)
    return Math.ceil(windowTokens - Math.min(outputTokens ?? windowTokens / 4, windowTokens / 2));
  return ROWS.find((row) => model.startsWith(row.prefix))?.tokens ?? UNKNOWN_TOKENS;
}
