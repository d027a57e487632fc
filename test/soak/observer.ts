// Looks at the store from outside the gateways, twice a second: a 503 is in order whenever the store really does not
// answer in time, whether a fault stopped it or the machine is too busy to run it.
import { createFirestoreStore } from '../../shared/store/firestore/firestore.ts';
import type { Fleet } from './fleet.ts';

const EVERY_MS = 500;
/** The gateways' own deadlines begin at two seconds; work of theirs is several operations. */
const SLOW_MS = 700;
/** A breaker that probes, a watch that reconnects: what is left of an outage may be felt this long. */
const AFTERMATH_MS = 8_000;

export interface Observer {
  /** The store answers, and has for a while. */
  isStoreFine(): boolean;
  /** Milliseconds in which it did not. */
  readonly slowMs: number;
  close(): Promise<void>;
}

export function observeStore({ projectId, firestoreHost }: Fleet): Observer {
  const store = createFirestoreStore({ projectId, emulatorHost: firestoreHost, clock: Date });
  let askedMs: number | undefined;
  let fineAtMs = 0;
  let slowMs = 0;
  let lastMs = performance.now();
  const isSlow = (): boolean => askedMs !== undefined && performance.now() - askedMs > SLOW_MS;

  const look = (): void => {
    const nowMs = performance.now();
    // A late timer says the same: nobody here gets to run.
    if (isSlow() || nowMs - lastMs > EVERY_MS + SLOW_MS) {
      slowMs += nowMs - lastMs;
      fineAtMs = nowMs + AFTERMATH_MS;
    }
    lastMs = nowMs;
    if (askedMs !== undefined) return;
    askedMs = nowMs;
    store
      .get([{ collection: 'health', id: 'soak' }])
      .catch(() => {})
      .finally(() => {
        if (isSlow()) fineAtMs = performance.now() + AFTERMATH_MS;
        askedMs = undefined;
      });
  };
  const timer = setInterval(look, EVERY_MS);

  return {
    isStoreFine: () => !isSlow() && performance.now() >= fineAtMs,
    get slowMs() {
      return slowMs;
    },
    async close() {
      clearInterval(timer);
      await store.close();
    },
  };
}
