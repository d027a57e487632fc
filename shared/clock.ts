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

/** A larger step of the wall clock, compared to the monotonic one, restarts the time for which it must be steady. */
const STEP_MS_MAX = 60_000;

/**
 * Returns a function that returns whether the wall clock has been steady for `steadyMs`, as far as its calls can show.
 * A clock that is wrong for a moment must not delete what has not expired.
 */
export function createSteadiness(clock: Clock, steadyMs: number): () => boolean {
  let steady = { wallMs: clock.now(), atMs: clock.monotonic() };
  return () => {
    const now = { wallMs: clock.now(), atMs: clock.monotonic() };
    const passedMs = now.atMs - steady.atMs;
    if (Math.abs(now.wallMs - steady.wallMs - passedMs) > STEP_MS_MAX) steady = now;
    return now.atMs - steady.atMs >= steadyMs;
  };
}

/** The UTC day of a time, `2026-11-13`. */
export function utcDay(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}

/** Generates unguessable ids: `next('turn')` -> `turn_` + 32 hex digits (122 random bits). */
export interface Ids {
  next(prefix: string): string;
}

export const systemClock: Clock = { now: () => Date.now(), monotonic: () => performance.now() };

/** randomUUID uses a pool of random bytes and takes 0.1 us, randomBytes(16) more than 1 us. */
export const randomIds: Ids = { next: (prefix) => `${prefix}_${randomUUID().replaceAll('-', '')}` };
