// Prepares an instance before it accepts calls: loads SDKs, and opens connections for which the first call would wait.
import { settledWithin } from '../../../shared/async.ts';
import type { Services } from '../../../shared/services.ts';
import type { Store } from '../../../shared/store/store.ts';

/** An instance that cannot reach its store starts after this time. Its error responses name the cause. */
const WARM_MS_MAX = 3_000;
const PING_TIMEOUT_MS = 10_000;

/** Opens the connection to the store. Never rejects. */
export async function connectStore(store: Store): Promise<void> {
  await ping(store);
}

/**
 * Opens the other connections, and waits only for that to the store, for a bounded time. A new connection may take
 * longer than the deadline of the rate limiter, so without the wait, the first calls would fail with 503. Never
 * rejects.
 */
export async function warm(
  services: Services,
  names: readonly ('keys' | 'bus')[],
  connected: Promise<void> = connectStore(services.store),
): Promise<void> {
  for (const name of names) void ping(services[name]);
  await settledWithin(WARM_MS_MAX, connected);
}

async function ping(port: Pick<Store, 'ping'>): Promise<void> {
  await port.ping({ signal: AbortSignal.timeout(PING_TIMEOUT_MS) }).catch(() => {});
}
