// The one way stores wait: a timer that an AbortSignal ends with the signal's own reason, as the port promises.
import { setTimeout as sleep } from 'node:timers/promises';

/** Resolves after `delayMs`; rejects with the signal's reason when it aborts first. */
export async function pause(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) {
    await sleep(delayMs);
    return;
  }
  try {
    await sleep(delayMs, undefined, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}
