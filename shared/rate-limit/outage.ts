// State of an outage of the limiter's store: its start, whether to retry, and which calls are admitted meanwhile.
// Holds a few numbers for the instance and two per key; it never queues and never waits. All its times are monotonic,
// but those that go to the caller.

import type { Limit } from '../config/limits.ts';
import type { RateDecision, TakeRequest } from './limiter.ts';

/**
 * Failures in a row, over all keys, after which callers no longer wait for the store; one may be a single lost
 * connection.
 */
const FAILURES_MAX = 2;
/** The pause before a probe doubles from the first to the second value, in milliseconds, each time times 0.5..1. */
const PROBE_PAUSE_MS = 250;
const PROBE_PAUSE_MAX_MS = 2_000;
/** A probe that has not reported after this long is given up, and another may be sent. */
const PROBE_LOST_MS = 5_000;
/** How long after the outage began cheap reads may still pass. */
const DEGRADED_MS = 60_000;
/**
 * The per-instance bucket: so many calls per key in so many milliseconds, and never more than the key's own smallest
 * limit.
 */
const BUCKET_MAX = 10;
const BUCKET_MS = 10_000;

/** One key's share of the bucket; `startMs` is monotonic. */
export interface Bucket {
  startMs: number;
  used: number;
}

export interface Outage {
  /** Whether a call may go to the store now. During an outage one call at a time may: it is the probe. */
  mayTry(atMs: number): boolean;
  /** True while callers do not wait for the store. */
  readonly open: boolean;
  /** The store answered. Returns how long the outage lasted, in milliseconds, when it ended one. */
  succeeded(atMs: number): number | undefined;
  /** The store did not answer. Returns true when this opened the breaker. */
  failed(atMs: number): boolean;
  /**
   * The answer to a call the store cannot decide: degraded admission from the bucket, or `unavailable`; never
   * `rate_limited`.
   */
  decide(request: TakeRequest, bucket: Bucket, time: Moment): RateDecision;
}

/** One moment by the wall clock and by the monotonic one, milliseconds. */
export interface Moment {
  readonly nowMs: number;
  readonly atMs: number;
}

export function createOutage(): Outage {
  let failures = 0;
  let sinceMs = 0;
  let nextProbeMs = 0;
  const isOpen = (): boolean => failures >= FAILURES_MAX;
  return {
    get open() {
      return isOpen();
    },
    mayTry(atMs) {
      if (!isOpen()) return true;
      if (atMs < nextProbeMs) return false;
      nextProbeMs = atMs + PROBE_LOST_MS;
      return true;
    },
    succeeded(atMs) {
      const wasOpen = isOpen();
      failures = 0;
      return wasOpen ? atMs - sinceMs : undefined;
    },
    failed(atMs) {
      if (failures === 0) sinceMs = atMs;
      failures++;
      const pause = Math.min(PROBE_PAUSE_MAX_MS, PROBE_PAUSE_MS * 2 ** Math.max(0, failures - FAILURES_MAX));
      nextProbeMs = atMs + pause * (0.5 + Math.random() / 2);
      return failures === FAILURES_MAX;
    },
    decide(request, bucket, { nowMs, atMs }) {
      if (request.mayDegrade && failures > 0 && atMs - sinceMs < DEGRADED_MS) {
        if (atMs - bucket.startMs >= BUCKET_MS) Object.assign(bucket, { startMs: atMs, used: 0 });
        const resetAtMs = nowMs + BUCKET_MS - (atMs - bucket.startMs);
        const limit = Math.min(BUCKET_MAX, ...request.limits.map(({ max }) => max));
        if (bucket.used + request.cost <= limit) {
          bucket.used += request.cost;
          return { outcome: 'admitted', degraded: true, limit, remaining: limit - bucket.used, resetAtMs };
        }
      }
      return unavailable(request.limits, Math.max(1_000, nextProbeMs - atMs), nowMs);
    },
  };
}

/**
 * A refusal that is not the caller's doing. The limit shown is the key's smallest, with nothing left until it is worth
 * asking again.
 */
export function unavailable(limits: readonly Limit[], retryAfterMs: number, nowMs: number): RateDecision {
  const limit = Math.min(...limits.map(({ max }) => max));
  return {
    outcome: 'unavailable',
    degraded: false,
    limit,
    remaining: 0,
    resetAtMs: nowMs + retryAfterMs,
    retryAfterMs,
  };
}
