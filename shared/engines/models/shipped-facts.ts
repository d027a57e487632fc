// Context windows and prices of models from the data of @pydantic/genai-prices, imported at first use (0.8 MB of code).
// A model is found by its exact id only: the package's own prefixes would give a new model the price of an older one.
import type { MatchLogic, ModelInfo, ModelPrice, Provider } from '@pydantic/genai-prices';
import { z } from 'zod';

/** USD per million tokens. */
export interface Rates {
  readonly input: number;
  readonly output: number;
  /** Of input that the provider had in its cache; absent: as `input`. */
  readonly cachedInput?: number;
  /** Of input that the provider writes to its cache; absent: as `input`. */
  readonly cacheWrite?: number;
}

export interface Price extends Rates {
  /** The prices of a request whose input has more tokens. */
  readonly long?: Rates & { readonly aboveTokens: number };
}

export interface ModelFacts {
  readonly contextTokens?: number;
  readonly maxOutputTokens?: number;
  readonly input?: readonly string[];
  readonly reasoning?: boolean;
  readonly outputSchema?: boolean;
  readonly price?: Price;
}

/** Whose models they are: a provider by its name in the data, or a server by its address. */
export type FactsSource = { readonly name: string } | { readonly url: string };

/** Undefined for a model that the data does not have. */
export async function shippedFacts(
  source: FactsSource,
  modelId: string,
  nowMs: number,
): Promise<ModelFacts | undefined> {
  const { findProvider } = await import('@pydantic/genai-prices');
  const provider = findProvider('name' in source ? { providerId: source.name } : { providerApiUrl: source.url });
  const model = provider && findModel(provider, modelId);
  if (model === undefined) return undefined;
  const { context_window: contextTokens } = model;
  const price = toPrice(currentPrices(model.prices, nowMs));
  return { ...(contextTokens !== undefined && { contextTokens }), ...(price !== undefined && { price }) };
}

function findModel({ models }: Provider, modelId: string): ModelInfo | undefined {
  return models.find(({ id }) => id === modelId) ?? models.find(({ match }) => isEqual(match, modelId));
}

/** Whether the id is one of the names that the model has. */
function isEqual(match: MatchLogic, modelId: string): boolean {
  if ('equals' in match) return match.equals === modelId;
  return 'or' in match && match.or.some((one) => isEqual(one, modelId));
}

/** The prices in force; undefined where they depend on the time of the day. */
function currentPrices(prices: ModelInfo['prices'], nowMs: number): ModelPrice | undefined {
  if (!Array.isArray(prices)) return prices;
  if (prices.some(({ constraint }) => constraint !== undefined && constraint.type !== 'start_date')) return undefined;
  const started = prices.filter(
    ({ constraint }) => constraint === undefined || Date.parse(String(Reflect.get(constraint, 'start_date'))) <= nowMs,
  );
  return started.at(-1)?.prices;
}

const Rate = z.union([
  z.number(),
  z.object({ base: z.number(), tiers: z.array(z.object({ start: z.number(), price: z.number() })) }),
]);
type Rate = z.output<typeof Rate>;

/** Undefined unless both prices of plain text are known and the data has one threshold at most. */
function toPrice(prices: ModelPrice | undefined): Price | undefined {
  if (prices === undefined) return undefined;
  const rates = {
    input: readRate(prices.input_mtok),
    output: readRate(prices.output_mtok),
    cachedInput: readRate(prices.cache_read_mtok),
    cacheWrite: readRate(prices.cache_write_mtok),
  };
  const thresholds = new Set(Object.values(rates).flatMap((rate) => tiersOf(rate).map(({ start }) => start)));
  if (thresholds.size > 1 || Object.values(rates).some((rate) => tiersOf(rate).length > 1)) return undefined;
  const base = toRates(rates, (rate) => (typeof rate === 'number' ? rate : rate.base));
  const [aboveTokens] = thresholds;
  if (base === undefined || aboveTokens === undefined) return base;
  const above = toRates(rates, (rate) => (typeof rate === 'number' ? rate : (rate.tiers[0]?.price ?? rate.base)));
  return above === undefined ? undefined : { ...base, long: { aboveTokens, ...above } };
}

function readRate(value: unknown): Rate | undefined {
  return Rate.safeParse(value).data;
}

function tiersOf(rate: Rate | undefined): readonly { readonly start: number }[] {
  return rate === undefined || typeof rate === 'number' ? [] : rate.tiers;
}

function toRates(
  {
    input,
    output,
    cachedInput,
    cacheWrite,
  }: Readonly<Record<'input' | 'output' | 'cachedInput' | 'cacheWrite', Rate | undefined>>,
  toUsd: (rate: Rate) => number,
): Omit<Price, 'long'> | undefined {
  if (input === undefined || output === undefined) return undefined;
  return {
    input: toUsd(input),
    output: toUsd(output),
    ...(cachedInput !== undefined && { cachedInput: toUsd(cachedInput) }),
    ...(cacheWrite !== undefined && { cacheWrite: toUsd(cacheWrite) }),
  };
}
