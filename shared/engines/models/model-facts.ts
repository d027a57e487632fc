// The facts about a model: its limits, the kinds of its input, and its price. The operator's facts (variable MODELS)
// come first, then shipped data; what neither has is absent, never guessed.
import { type Config, PROVIDER_URLS } from '../../config/config.ts';
import { OFFLINE_MODELS } from '../../config/values/model-id.ts';
import type { FactsSource, ModelFacts, Price } from './shipped-facts.ts';

type FactsConfig = Pick<Config, 'models' | 'modelProviders' | 'providers'>;

/** Makes no call. The shipped data is read only where the operator's facts lack a window or a price. */
export async function modelFacts(model: string, config: FactsConfig, nowMs: number): Promise<ModelFacts> {
  if (OFFLINE_MODELS.has(model)) return { input: ['text'], reasoning: false, outputSchema: false };
  const own = ownFacts(model, config);
  if (own.contextTokens !== undefined && own.price !== undefined) return own;
  const slash = model.indexOf('/');
  const source = sourceOf(model.slice(0, slash), config);
  if (source === undefined) return own;
  const { shippedFacts } = await import('./shipped-facts.ts');
  return { ...(await shippedFacts(source, model.slice(slash + 1), nowMs)), ...own };
}

function ownFacts(model: string, { models }: FactsConfig): ModelFacts {
  const { context_tokens, max_output_tokens, input, reasoning, output_schema, price } = models.get(model) ?? {};
  return {
    ...(context_tokens !== undefined && { contextTokens: context_tokens }),
    ...(max_output_tokens !== undefined && { maxOutputTokens: max_output_tokens }),
    ...(input !== undefined && { input }),
    ...(reasoning !== undefined && { reasoning }),
    ...(output_schema !== undefined && { outputSchema: output_schema }),
    ...(price !== undefined && { price: toPrice(price) }),
  };
}

function toPrice({
  input,
  output,
  cached_input,
  cache_write,
}: NonNullable<NonNullable<ReturnType<FactsConfig['models']['get']>>['price']>): Price {
  return {
    input,
    output,
    ...(cached_input !== undefined && { cachedInput: cached_input }),
    ...(cache_write !== undefined && { cacheWrite: cache_write }),
  };
}

/** A server behind another address than the provider's own may have prices of its own: it is found by its address. */
function sourceOf(provider: string, { providers, modelProviders }: FactsConfig): FactsSource | undefined {
  switch (provider) {
    case 'google':
      return { name: 'google' };
    case 'anthropic':
      return { url: providers.anthropic?.baseUrl ?? PROVIDER_URLS.anthropic };
    case 'openai':
    case 'codex':
      return { url: providers.openai?.baseUrl ?? PROVIDER_URLS.openai };
    default: {
      const server = modelProviders.get(provider);
      return server && { url: server.baseUrl };
    }
  }
}
