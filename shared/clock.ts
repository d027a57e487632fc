// Time and identity as ports, so that rules about windows, leases and expiry can be tested with a clock that stands
// still.
import { randomUUID } from 'node:crypto';

/** What the store needs of time. */
export interface WallClock {
  /** Epoch milliseconds. May be wrong, and may step in either direction: never subtract two readings to get an age. */
  now(): number;
}

/** The two clocks of a process. */
export interface Clock extends WallClock {
  /**
   * Milliseconds since some moment of this process; only ever goes forward. For ages within the process; means nothing
   * elsewhere.
   */
  monotonic(): number;
}

/** Source of unguessable identifiers: `next('turn')` -> `turn_` + 32 hex digits (122 random bits). */
export interface Ids {
  next(prefix: string): string;
}

export const systemClock: Clock = { now: () => Date.now(), monotonic: () => performance.now() };

/** randomUUID draws from a pool: 0.1 us, where randomBytes(16) takes more than 1. */
export const randomIds: Ids = { next: (prefix) => `${prefix}_${randomUUID().replaceAll('-', '')}` };
