// Whether the owner of a lease, or of a place in the queue, is alive. Its clock wrote the time until which it is; a
// time further ahead than a lease can reach was written by a wrong clock and says nothing. Then this instance looks
// whether the owner renews it, by its own monotonic clock. What it remembers for that is a hint, bounded, and lost with
// the process.
import { LRUCache } from 'lru-cache';
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import type { Lease, QueuedPrompt } from './records/documents.ts';

/** A queued prompt whose waiting instance has not renewed it for this long has expired. */
export const QUEUE_ALIVE_MS = 30_000;
/** Parts of a lease that clocks which are fairly right may differ by. */
const SKEW = 0.5;
/** Heartbeats that an owner of unknown standing is given. */
const BEATS = 1.5;
const REMEMBERED_MAX = 10_000;

/** `doubtful`: not known yet; ask again when the lease has changed, or after `doubtMs`. */
export type Standing = 'alive' | 'gone' | 'doubtful';

export interface OwnerWatch {
  /** The longest that a lease stays doubtful, milliseconds. */
  readonly doubtMs: number;
  ofLease(lease: Lease): Standing;
  isWaiting(entry: QueuedPrompt): boolean;
}

interface Seen {
  readonly untilMs: number;
  /** Since when this value is known here, monotonic. */
  readonly sinceMs: number;
  /** Another value was seen before it: the owner was alive then. */
  readonly renewed: boolean;
}

export function createOwnerWatch(clock: Clock, { leaseMs, heartbeatMs }: Config['turns']): OwnerWatch {
  const remembered = new LRUCache<string, Seen>({ max: REMEMBERED_MAX });
  const doubtMs = BEATS * heartbeatMs;

  const look = (turnId: string, untilMs: number): Seen => {
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
      const { sinceMs, renewed } = look(turn_id, lease_until_ms);
      const ageMs = clock.monotonic() - sinceMs;
      if (renewed) return ageMs < leaseMs ? 'alive' : 'gone';
      return ageMs < doubtMs ? 'doubtful' : 'gone';
    },
    isWaiting({ turn_id, alive_until_ms }) {
      const aheadMs = alive_until_ms - clock.now();
      if (aheadMs <= QUEUE_ALIVE_MS * (1 + SKEW)) return aheadMs > 0;
      return clock.monotonic() - look(turn_id, alive_until_ms).sinceMs < QUEUE_ALIVE_MS;
    },
  };
}
