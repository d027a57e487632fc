// Decides whether a failed call of a turn is repeated, and waits before that: a random backoff, which doubles, and the
// time that the provider requests. The waits that providers request are bounded per call and per turn.
import { setTimeout as sleep } from 'node:timers/promises';
import type { EngineEvent } from '../../turn-events.ts';
import { type Failure, withRetryAfter } from '../failures/failures.ts';

const CALLS_MAX = 3;
const RETRY_AFTER_MAX_MS = 30_000;

export interface FailedAttempt {
  /** Number of the call, from 1. */
  readonly attempt: number;
  /** Whether a part of the answer has been sent to the caller. */
  readonly hasStarted: boolean;
  readonly failure: Failure;
}

export interface RetryWaits {
  /** Yields an event for a wait that the provider requests. Throws the error of the last call. */
  before(failed: FailedAttempt): AsyncGenerator<EngineEvent, void, void>;
}

export interface RetryWaitsOptions {
  /** Upper bound of the first backoff. */
  readonly backoffMs: number;
  readonly random: () => number;
  /** Longest waits, in total, that providers may request in the turn. */
  readonly requestedMsMax: number;
  /** The end of the turn, of `performance.now()`. */
  readonly endsAtMs: number;
  readonly signal: AbortSignal;
}

export function createRetryWaits(options: RetryWaitsOptions): RetryWaits {
  const { random, endsAtMs, signal } = options;
  let requestedLeftMs = options.requestedMsMax;

  return {
    async *before({ attempt, hasStarted, failure: { error, retry, retryAfterMs } }) {
      const backoffMs = options.backoffMs * 2 ** (attempt - 1);
      const waitMs = (retryAfterMs ?? 0) + random() * backoffMs;
      const waitMsMax = Math.min(
        Math.min(RETRY_AFTER_MAX_MS, requestedLeftMs) + backoffMs,
        endsAtMs - performance.now(),
      );
      if (hasStarted || !retry || attempt === CALLS_MAX || waitMs > waitMsMax) {
        throw withRetryAfter(error, retryAfterMs ?? (retry ? backoffMs * 2 : undefined));
      }
      if (retryAfterMs !== undefined) {
        requestedLeftMs -= retryAfterMs;
        yield { StreamError: { message: error.message, attempt, retry_in_ms: Math.round(waitMs) } };
      }
      await sleep(waitMs, undefined, { signal }).catch(() => signal.throwIfAborted());
    },
  };
}
