// Clock and ids as ports, so that tests of windows, leases and expiry can control them.
import { randomUUID } from 'node:crypto';

/** The wall clock, as stores use it. */
export interface WallClock {
  /** Epoch milliseconds. May be wrong and may step back or forward: do not compute durations from it. */
  now(): number;
}

/** The two clocks of a process. */
export interface Clock extends WallClock {
  /** Milliseconds since an arbitrary moment of this process; never decreases. For durations within the process only. */
  monotonic(): number;
}

/** Generates unguessable ids: `next('turn')` -> `turn_` + 32 hex digits (122 random bits). */
export interface Ids {
  next(prefix: string): string;
}

export const systemClock: Clock = { now: () => Date.now(), monotonic: () => performance.now() };

/** randomUUID uses a pool of random bytes and takes 0.1 us, randomBytes(16) more than 1 us. */
export const randomIds: Ids = { next: (prefix) => `${prefix}_${randomUUID().replaceAll('-', '')}` };
