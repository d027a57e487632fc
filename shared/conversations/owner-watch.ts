// Whether the owner of a lease, or of a place in the queue, is alive. The owner writes the time until which it is, by
// its own clock. A time further ahead than a lease can reach comes from a wrong clock and is useless: then this
// instance checks by its own monotonic clock whether the owner renews the lease. The observations for that are bounded,
// and lost with the process.
import { LRUCache } from 'lru-cache';
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import type { Lease, QueuedPrompt } from './records/documents.ts';

/** A queued prompt whose waiting instance has not renewed it for this long has expired. */
export const QUEUE_ALIVE_MS = 30_000;
/** The share of a lease by which two working clocks may differ. */
const SKEW = 0.5;
/** Heartbeats within which an owner of unknown state must renew its lease. */
const BEATS = 1.5;
const REMEMBERED_MAX = 10_000;

/** `doubtful`: not known yet; check again when the lease has changed, or after `doubtMs`. */
export type Standing = 'alive' | 'gone' | 'doubtful';

export interface OwnerWatch {
  /** The longest that a lease stays doubtful, milliseconds. */
  readonly doubtMs: number;
  ofLease(lease: Lease): Standing;
  isWaiting(entry: QueuedPrompt): boolean;
}

interface Seen {
  readonly untilMs: number;
  /** When this instance read the value first, monotonic. */
  readonly sinceMs: number;
  /** An earlier read had another value: the owner has renewed it since. */
  readonly renewed: boolean;
}

export function createOwnerWatch(clock: Clock, { leaseMs, heartbeatMs }: Config['turns']): OwnerWatch {
  const remembered = new LRUCache<string, Seen>({ max: REMEMBERED_MAX });
  const doubtMs = BEATS * heartbeatMs;

  const observe = (turnId: string, untilMs: number): Seen => {
    const before = remembered.get(turnId);
    if (before?.untilMs === untilMs) return before;
    const seen = { untilMs, sinceMs: clock.monotonic(), renewed: before !== undefined };
    remembered.set(turnId, seen);
    return seen;
  };

  return {
    doubtMs,
    ofLease({ turn_id, lease_until_ms }) {
      const aheadMs = lease_until_ms - clock.now();
      if (aheadMs <= 0) return 'gone';
      if (aheadMs <= leaseMs * (1 + SKEW)) return 'alive';
      const { sinceMs, renewed } = observe(turn_id, lease_until_ms);
      const ageMs = clock.monotonic() - sinceMs;
      if (renewed) return ageMs < leaseMs ? 'alive' : 'gone';
      return ageMs < doubtMs ? 'doubtful' : 'gone';
    },
    isWaiting({ turn_id, alive_until_ms }) {
      const aheadMs = alive_until_ms - clock.now();
      if (aheadMs <= QUEUE_ALIVE_MS * (1 + SKEW)) return aheadMs > 0;
      return clock.monotonic() - observe(turn_id, alive_until_ms).sinceMs < QUEUE_ALIVE_MS;
    },
  };
}
