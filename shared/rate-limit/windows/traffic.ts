// Estimates how often other instances write the document of a key, and from that whether the cached version is still
// the stored one. A commit on a stale version costs three operations (conflict, read, commit), a read and a commit two,
// a commit on the stored version one. A wrong estimate costs operations only: the commit conflicts, and no call is
// admitted by it.
import type { LimitState } from './limit-state.ts';

/**
 * Calls of other instances and the time over which they were counted; each observation first reduces both by a quarter.
 */
export interface Traffic {
  calls: number;
  elapsedMs: number;
}

const FADING = 0.75;
/**
 * The cached version is used up to this part of the mean gap between calls of others. Break-even is ln 2 (the version
 * is current with probability 1/2); the value is lower because the rate is an estimate.
 */
const TRUSTED_GAP = 0.4;
/** A smoothed rate below this counts as no traffic. */
const CALLS_MIN = 0.1;

/** Whether to commit on a cached version that is `ageMs` old, without a read. */
export function isProbablyCurrent(traffic: Traffic, ageMs: number): boolean {
  return traffic.calls < CALLS_MIN || ageMs * traffic.calls < TRUSTED_GAP * traffic.elapsedMs;
}

/**
 * Updates the estimate after a transaction: at `leftAtMs` this instance stored `left`, at `nowMs` it found `found`. A
 * document that another instance created counts as busy until an observation shows no calls.
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
 * Calls counted between two states, in the longest window, because it resets least often. Of several windows of that
 * length the first one was written by the last writer.
 */
function callsBetween(left: LimitState, found: LimitState): number {
  const longest = found.windows.reduce((best, window) => Math.max(best, window.window_ms), 0);
  const now = found.windows.find(({ window_ms }) => window_ms === longest);
  const then = left.windows.find(({ window_ms, start_ms }) => window_ms === longest && start_ms === now?.start_ms);
  return Math.max(0, (now?.count ?? 0) - (then?.count ?? 0));
}
