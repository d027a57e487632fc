// Reads the store twice a second, past the gateways: a 503 is expected whenever the store does not respond in time,
// whether a fault suspended it or the machine is too busy to run it.
import { createFirestoreStore } from '../../../shared/store/firestore/firestore.ts';
import type { Fleet } from './fleet.ts';

const EVERY_MS = 500;
/** The gateways' shortest deadline is two seconds, and one call of theirs may need several operations. */
const SLOW_MS = 700;
/** How long recovery takes after an outage: an open breaker, a watch that reconnects. */
const RECOVERY_MS = 8_000;

export interface Observer {
  /** The store responds in time, and has done so for RECOVERY_MS. */
  isStoreHealthy(): boolean;
  /** Milliseconds in which it did not respond in time. */
  readonly slowMs: number;
  close(): Promise<void>;
}

export function observeStore({ projectId, firestoreHost }: Fleet): Observer {
  const store = createFirestoreStore({ projectId, emulatorHost: firestoreHost, clock: Date });
  let requestedMs: number | undefined;
  let healthyAtMs = 0;
  let slowMs = 0;
  let lastMs = performance.now();
  const isSlow = (): boolean => requestedMs !== undefined && performance.now() - requestedMs > SLOW_MS;

  const probe = (): void => {
    const nowMs = performance.now();
    // A late timer shows the same: the machine is too busy to run any process in time.
    if (isSlow() || nowMs - lastMs > EVERY_MS + SLOW_MS) {
      slowMs += nowMs - lastMs;
      healthyAtMs = nowMs + RECOVERY_MS;
    }
    lastMs = nowMs;
    if (requestedMs !== undefined) return;
    requestedMs = nowMs;
    store
      .get([{ collection: 'health', id: 'soak' }])
      .catch(() => {})
      .finally(() => {
        if (isSlow()) healthyAtMs = performance.now() + RECOVERY_MS;
        requestedMs = undefined;
      });
  };
  const timer = setInterval(probe, EVERY_MS);

  return {
    isStoreHealthy: () => !isSlow() && performance.now() >= healthyAtMs,
    get slowMs() {
      return slowMs;
    },
    async close() {
      clearInterval(timer);
      await store.close();
    },
  };
}
