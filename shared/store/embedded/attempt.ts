// Waits for the locks of other processes, up to a deadline and without blocking the event loop.
import { pause } from '../../async.ts';
import type { CallOptions } from '../store.ts';
import { isBusy, toStoreError } from './database.ts';

const TIMEOUT_DEFAULT_MS = 10_000;
const BUSY_PAUSE_MS = 15;

/** Runs `work`, again while another process has the lock; throws RpcError for a failure of the database. */
export type Attempt = <R>(options: CallOptions, work: () => R) => Promise<R>;

/** `check` runs before each attempt, and throws when there should be none. */
export function createAttempt(check: (signal: AbortSignal | undefined) => void): Attempt {
  return async ({ signal, timeoutMs = TIMEOUT_DEFAULT_MS }, work) => {
    const start = performance.now();
    for (;;) {
      check(signal);
      try {
        return work();
      } catch (error) {
        if (!isBusy(error) || performance.now() - start >= timeoutMs) throw toStoreError(error);
      }
      await pause(Math.random() * BUSY_PAUSE_MS, signal);
    }
  };
}
