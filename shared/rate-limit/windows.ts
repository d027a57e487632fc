// Window arithmetic, pure: what one key has used, whether a call fits, what it leaves. Windows are fixed and aligned to
// UTC; which of the stored ones a clock counts in, and which are kept for other clocks, is window-labels.ts. No I/O, no
// clock of its own.

import type { Limit } from '../config/limits.ts';
import type { RateDecision } from './limiter.ts';
import { keepLabels, labelFor, type WindowCount } from './window-labels.ts';

/** Everything the limiter remembers about a key: the content of its one document. */
export interface LimitState {
  readonly windows: readonly WindowCount[];
  /** The emergency switch: a revoked key is refused whatever it has left. */
  readonly revoked: boolean;
}

export const EMPTY_STATE: LimitState = { windows: [], revoked: false };

/**
 * Windows of limits that are no longer configured are carried until they end; of more lengths than this none are
 * carried.
 */
const LENGTHS_MAX = 16;

export interface Charge {
  readonly decision: RateDecision;
  /** The state after the call; the very object passed in when nothing was charged. */
  readonly state: LimitState;
}

/**
 * Decides a call of `cost` at `nowMs` and charges it to every window, or to none. An admitted call also counts in live
 * windows that `limits` no longer names, so that instances with different configurations (a rolling deployment) keep
 * each other's counts. Throws RangeError when `limits` is empty or `cost` is negative or no integer: both are faults of
 * the program, not of a caller.
 */
export function charge(state: LimitState, limits: readonly Limit[], cost: number, nowMs: number): Charge {
  const refusal = refuse(state, limits, cost, nowMs);
  if (refusal !== undefined) return { decision: refusal, state };
  if (cost === 0)
    return { decision: { outcome: 'admitted', degraded: false, ...tightest(state, limits, nowMs) }, state };
  const lengths = new Set(limits.map(({ windowMs }) => windowMs));
  for (const { window_ms, start_ms } of state.windows) {
    if (lengths.size < LENGTHS_MAX && start_ms + window_ms > nowMs) lengths.add(window_ms);
  }
  const current: WindowCount[] = [];
  const others: WindowCount[] = [];
  for (const windowMs of lengths) {
    const stored = state.windows.filter(({ window_ms }) => window_ms === windowMs);
    const used = labelFor(stored, windowMs, nowMs);
    const kept = keepLabels(stored, { ...used, count: used.count + cost });
    current.push(kept.current);
    others.push(...kept.others);
  }
  // The windows of this clock come first: an older version of the gateway looks no further.
  const windows = [...current, ...others];
  const charged = { ...state, windows };
  return { decision: { outcome: 'admitted', degraded: false, ...tightest(charged, limits, nowMs) }, state: charged };
}

/**
 * The refusal a call would meet, or undefined when it fits. The count of a stored window only grows, so a refusal read
 * from an old state still holds for the present one (unless an operator reset the document): this is what makes the
 * local deny cache sound. The wait that it names is never longer than the window, also where the stored window belongs
 * to a clock that is ahead.
 */
export function refuse(
  state: LimitState,
  limits: readonly Limit[],
  cost: number,
  nowMs: number,
): RateDecision | undefined {
  if (limits.length === 0) throw new RangeError('at least one limit is needed');
  if (!Number.isSafeInteger(cost) || cost < 0) throw new RangeError('cost must be a natural number');
  if (state.revoked) return { outcome: 'revoked', degraded: false, ...tightest(state, limits, nowMs), remaining: 0 };
  // A free call only checks whether the key is revoked, and reads what is left.
  if (cost === 0) return undefined;
  let refusal: RateDecision | undefined;
  for (const { max, windowMs } of limits) {
    const { startMs, count } = usage(state, windowMs, nowMs);
    const resetAtMs = startMs + windowMs;
    if (count + cost <= max || (refusal !== undefined && refusal.resetAtMs >= resetAtMs)) continue;
    const remaining = Math.max(0, max - count);
    refusal = {
      outcome: 'rate_limited',
      degraded: false,
      limit: max,
      remaining,
      resetAtMs,
      retryAfterMs: Math.min(resetAtMs - nowMs, windowMs),
    };
  }
  return refusal;
}

/** State of each limit at `nowMs`, in the order of `limits`. Reads only. */
export function report(
  state: LimitState,
  limits: readonly Limit[],
  nowMs: number,
): { readonly limit: Limit; readonly remaining: number; readonly resetAtMs: number }[] {
  return limits.map((limit) => {
    const { startMs, count } = usage(state, limit.windowMs, nowMs);
    return { limit, remaining: Math.max(0, limit.max - count), resetAtMs: startMs + limit.windowMs };
  });
}

/** Epoch milliseconds at which the last window of a state ends; 0 when it holds none. */
export function endOf(state: LimitState): number {
  return state.windows.reduce((end, window) => Math.max(end, window.start_ms + window.window_ms), 0);
}

/** The window with the fewest calls left; of equals the one that resets last. */
function tightest(state: LimitState, limits: readonly Limit[], nowMs: number) {
  let found = { limit: 0, remaining: Number.POSITIVE_INFINITY, resetAtMs: 0 };
  for (const { max, windowMs } of limits) {
    const { startMs, count } = usage(state, windowMs, nowMs);
    const remaining = Math.max(0, max - count);
    const resetAtMs = startMs + windowMs;
    if (remaining > found.remaining || (remaining === found.remaining && resetAtMs <= found.resetAtMs)) continue;
    found = { limit: max, remaining, resetAtMs };
  }
  return found;
}

function usage(state: LimitState, windowMs: number, nowMs: number): { startMs: number; count: number } {
  const stored = state.windows.filter(({ window_ms }) => window_ms === windowMs);
  const { start_ms, count } = labelFor(stored, windowMs, nowMs);
  return { startMs: start_ms, count };
}
