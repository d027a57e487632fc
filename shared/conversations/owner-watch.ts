// Decides whether the owner of a lease or of a queue entry is alive. The owner writes an expiry by its own clock. An
// expiry further ahead than a lease can be comes from a wrong clock: then this instance observes by its monotonic clock
// whether the owner renews the lease. The observations are bounded and in memory only.
import { LRUCache } from 'lru-cache';
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import type { Lease, QueuedPrompt } from './records/documents.ts';

/** Lifetime of a queue entry, milliseconds; the instance that waits renews it. */
export const QUEUE_ALIVE_MS = 30_000;
/** Tolerated clock skew, as a part of the lease. */
const SKEW = 0.5;
/** Heartbeats within which an owner of unknown state must renew its lease. */
const BEATS = 1.5;
const OBSERVATIONS_MAX = 10_000;

/** `unknown`: check again when the lease has changed, or after `unknownMsMax`. */
export type OwnerState = 'alive' | 'expired' | 'unknown';

export interface OwnerWatch {
  /** The longest time for which a lease is `unknown`, milliseconds. */
  readonly unknownMsMax: number;
  ofLease(lease: Lease): OwnerState;
  isWaiting(entry: QueuedPrompt): boolean;
}

interface Observation {
  readonly untilMs: number;
  /** Monotonic time of the first read of the value. */
  readonly sinceMs: number;
  /** An earlier read had another value, so the owner has renewed it. */
  readonly renewed: boolean;
}

export function createOwnerWatch(clock: Clock, { leaseMs, heartbeatMs }: Config['turns']): OwnerWatch {
  const observations = new LRUCache<string, Observation>({ max: OBSERVATIONS_MAX });
  const unknownMsMax = BEATS * heartbeatMs;

  const observe = (turnId: string, untilMs: number): Observation => {
    const before = observations.get(turnId);
    if (before?.untilMs === untilMs) return before;
    const observation = { untilMs, sinceMs: clock.monotonic(), renewed: before !== undefined };
    observations.set(turnId, observation);
    return observation;
  };

  return {
    unknownMsMax,
    ofLease({ turn_id, lease_until_ms }) {
      const aheadMs = lease_until_ms - clock.now();
      if (aheadMs <= 0) return 'expired';
      if (aheadMs <= leaseMs * (1 + SKEW)) return 'alive';
      const { sinceMs, renewed } = observe(turn_id, lease_until_ms);
      const ageMs = clock.monotonic() - sinceMs;
      if (renewed) return ageMs < leaseMs ? 'alive' : 'expired';
      return ageMs < unknownMsMax ? 'unknown' : 'expired';
    },
    isWaiting({ turn_id, alive_until_ms }) {
      const aheadMs = alive_until_ms - clock.now();
      if (aheadMs <= QUEUE_ALIVE_MS * (1 + SKEW)) return aheadMs > 0;
      return clock.monotonic() - observe(turn_id, alive_until_ms).sinceMs < QUEUE_ALIVE_MS;
    },
  };
}
