// How busy other instances are with a key, and so whether the document we last wrote is probably still the stored one.
// A commit on a stale version costs three operations (lost commit, read, commit), a read before it two, a commit on the
// right version one. Only ever about cost: a wrong guess loses a commit, it never admits.
import type { LimitState } from './windows.ts';

/** Calls others were seen to make, and the time they were seen over; both fade by a quarter with each observation. */
export interface Traffic {
  calls: number;
  elapsedMs: number;
}

const FADING = 0.75;
/**
 * Part of the mean gap between others' calls during which we trust. Break-even is ln 2 (the version holds with
 * probability 1/2), less for the estimate's error.
 */
const TRUSTED_GAP = 0.4;
/** A smoothed rate below this counts as no traffic. */
const CALLS_MIN = 0.1;

/** Whether to commit on a version that is `ageMs` old without reading first. */
export function isProbablyCurrent(traffic: Traffic, ageMs: number): boolean {
  return traffic.calls < CALLS_MIN || ageMs * traffic.calls < TRUSTED_GAP * traffic.elapsedMs;
}

/**
 * Takes in what a transaction at `nowMs` found stored (`found`) where we had left `left` at `leftAtMs`. A document that
 * others made is taken for a busy one until seen quiet.
 */
export function observe(
  traffic: Traffic,
  left: LimitState | undefined,
  leftAtMs: number,
  found: LimitState,
  nowMs: number,
): void {
  if (left === undefined) {
    traffic.calls = found.windows.length === 0 ? 0 : 1;
    traffic.elapsedMs = 0;
    return;
  }
  traffic.calls = traffic.calls * FADING + callsBetween(left, found);
  traffic.elapsedMs = traffic.elapsedMs * FADING + Math.max(0, nowMs - leftAtMs);
}

/**
 * By the longest window, which resets least. Of several labels of it the first is that of the clock that wrote last.
 */
function callsBetween(left: LimitState, found: LimitState): number {
  const longest = found.windows.reduce((best, window) => Math.max(best, window.window_ms), 0);
  const now = found.windows.find(({ window_ms }) => window_ms === longest);
  const then = left.windows.find(({ window_ms, start_ms }) => window_ms === longest && start_ms === now?.start_ms);
  return Math.max(0, (now?.count ?? 0) - (then?.count ?? 0));
}
