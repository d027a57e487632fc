// A circuit breaker for the limiter's store: the start of an outage, the time of the next probe, and the calls that are
// admitted meanwhile. State: three numbers per instance and two per key; it never queues and never waits. All times are
// monotonic, except those in a RateDecision.

import type { Limit } from '../../config/values/limits.ts';
import type { RateDecision, TakeRequest } from '../limiter.ts';

/** Consecutive failures, over all keys, that open the breaker. More than one, because one may be a lost connection. */
const FAILURES_MAX = 2;
/**
 * The pause before a probe doubles from the first to the second value (milliseconds); each is multiplied by 0.5 to 1.
 */
const PROBE_PAUSE_MS = 250;
const PROBE_PAUSE_MAX_MS = 2_000;
/** A probe without a result after this long no longer blocks the next probe. */
const PROBE_LOST_MS = 5_000;
/** Cheap reads are admitted for this long after the start of the outage. */
const DEGRADED_MS = 60_000;
/** The per-instance bucket: BUCKET_MAX calls per key in BUCKET_MS, and never more than the key's smallest limit. */
const BUCKET_MAX = 10;
const BUCKET_MS = 10_000;

/** The bucket of one key; `startMs` is monotonic. */
export interface Bucket {
  startMs: number;
  used: number;
}

export interface Outage {
  /** Whether a call may use the store now. During an outage one call at a time may: the probe. */
  mayTry(atMs: number): boolean;
  /** True while the breaker is open: calls are decided without the store. */
  readonly open: boolean;
  /**
   * Records a success. Returns the duration of the outage that it ended, in milliseconds; undefined if there was none.
   */
  succeeded(atMs: number): number | undefined;
  /** Records a failure. Returns true if it opened the breaker. */
  failed(atMs: number): boolean;
  /** The decision for a call without the store: admitted by the bucket, or `unavailable`; never `rate_limited`. */
  decide(request: TakeRequest, bucket: Bucket, time: Moment): RateDecision;
}

/** The same moment by the wall clock (`nowMs`) and by the monotonic clock (`atMs`), milliseconds. */
export interface Moment {
  readonly nowMs: number;
  readonly atMs: number;
}

/** `random` returns 0 <= x < 1. */
export function createOutage(random: () => number): Outage {
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
      nextProbeMs = atMs + pause * (0.5 + random() / 2);
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
 * A refusal that the caller's usage did not cause. It reports the key's smallest limit, with 0 calls left until the
 * retry.
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
