// A deadline or an idle timeout as an AbortSignal that also aborts with the caller's signal. Removes its listeners at
// the end.
import { GatewayError, networkError } from '../gateway-error.ts';

/** Longer timers fire at once. */
const TIMER_MS_MAX = 2 ** 31 - 1;

export interface Timer {
  /** Aborted with the parent's reason or with a GatewayError (`timeout`, `network`). */
  readonly signal: AbortSignal;
  leftMs(): number;
  /** Restarts the time. */
  restart(): void;
  end(): void;
}

/** Starts the deadline of a call with its retries. */
export function startDeadline(timeoutMs: number, parent: AbortSignal | undefined): Timer {
  return startTimer(timeoutMs, parent, () => {
    return new GatewayError({ reason: 'timeout', message: `no answer within ${timeoutMs} ms`, retryable: true });
  });
}

/** Starts an idle timeout, which must be restarted when bytes are received. */
export function startWatch(silenceMs: number, parent: AbortSignal): Timer {
  return startTimer(silenceMs, parent, () => networkError(`no data was received for ${silenceMs} ms`));
}

function startTimer(ms: number, parent: AbortSignal | undefined, makeError: () => GatewayError): Timer {
  const controller = new AbortController();
  const durationMs = Math.min(ms, TIMER_MS_MAX);
  let timer: ReturnType<typeof setTimeout> | undefined;
  let untilMs = 0;
  const follow = (): void => controller.abort(parent?.reason);
  const restart = (): void => {
    clearTimeout(timer);
    untilMs = Date.now() + durationMs;
    timer = setTimeout(() => controller.abort(makeError()), durationMs);
  };
  if (parent?.aborted === true) follow();
  else {
    parent?.addEventListener('abort', follow, { once: true });
    restart();
  }
  return {
    signal: controller.signal,
    leftMs: () => Math.max(0, untilMs - Date.now()),
    restart,
    end() {
      clearTimeout(timer);
      parent?.removeEventListener('abort', follow);
    },
  };
}

/** Rejects with the signal's reason when it aborts first. */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
}
