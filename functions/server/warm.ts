// Prepares an instance before it accepts calls: loads SDKs and opens the connections that the first call would wait
// for.
import { settledWithin } from '../../shared/async.ts';
import type { Services } from '../../shared/services.ts';

/** After this time an instance that cannot reach its store serves requests: its errors name the cause. */
const WARM_MS_MAX = 3_000;
const PING_TIMEOUT_MS = 10_000;

/**
 * Waits for the store, within bounds, and for nothing else: the limiter gives a call less time than a cold connection
 * may take, so an instance that listened sooner would answer its first callers 503. Never rejects.
 */
export async function warm(services: Services, names: readonly ('keys' | 'store' | 'bus')[]): Promise<void> {
  const pings = names.map(async (name) => {
    await services[name].ping({ signal: AbortSignal.timeout(PING_TIMEOUT_MS) }).catch(() => {});
    return name;
  });
  const store = pings[names.indexOf('store')];
  await settledWithin(WARM_MS_MAX, Promise.resolve(store));
}
