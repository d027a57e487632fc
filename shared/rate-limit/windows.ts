// Window arithmetic, pure: what one key has used, whether a call fits, what it leaves. Windows are fixed, aligned to UTC and only ever
// move forward, so no window label admits more than its limit whatever the instances' clocks say. No I/O, no clock of its own.
import type { Limit, RateDecision } from './limiter.ts';

/** One counted window as stored: `count` calls admitted since `start_ms` (epoch milliseconds, a multiple of `window_ms`). */
export interface WindowCount {
  readonly window_ms: number;
  readonly start_ms: number;
  readonly count: number;
}

/** Everything the limiter remembers about a key: the content of its one document. */
export interface LimitState {
  readonly windows: readonly WindowCount[];
  /** The emergency switch: a revoked key is refused whatever it has left. */
  readonly revoked: boolean;
}

export const EMPTY_STATE: LimitState = { windows: [], revoked: false };

/** Windows of limits that are no longer configured are carried until they end; more than this many are not kept. */
const WINDOWS_MAX = 16;

export interface Charge {
  readonly decision: RateDecision;
  /** The state after the call; the very object passed in when nothing was charged. */
  readonly state: LimitState;
}

/**
 * Decides a call of `cost` at `nowMs` and charges it to every window, or to none. An admitted call also counts in live windows that
 * `limits` no longer names, so that instances with different configurations (a rolling deployment) keep each other's counts.
 * Throws RangeError when `limits` is empty or `cost` is not a positive integer: both are faults of the program, not of a caller.
 */
export function charge(state: LimitState, limits: readonly Limit[], cost: number, nowMs: number): Charge {
  const refusal = refuse(state, limits, cost, nowMs);
  if (refusal !== undefined) return { decision: refusal, state };
  const windows: WindowCount[] = [];
  for (const { windowMs } of limits) {
    if (windows.some((window) => window.window_ms === windowMs)) continue;
    const { startMs, count } = usage(state, windowMs, nowMs);
    windows.push({ window_ms: windowMs, start_ms: startMs, count: count + cost });
  }
  for (const { window_ms, start_ms, count } of state.windows) {
    if (windows.length >= WINDOWS_MAX) break;
    if (start_ms + window_ms <= nowMs || windows.some((window) => window.window_ms === window_ms)) continue;
    windows.push({ window_ms, start_ms, count: count + cost });
  }
  const charged = { windows, revoked: false };
  return { decision: { outcome: 'admitted', degraded: false, ...tightest(charged, limits, nowMs) }, state: charged };
}

/**
 * The refusal a call would meet, or undefined when it fits. Counts only grow and windows only move forward, so a refusal read from an old
 * state still holds for the present one (unless an operator reset the document): this is what makes the local deny cache sound.
 */
export function refuse(
  state: LimitState,
  limits: readonly Limit[],
  cost: number,
  nowMs: number,
): RateDecision | undefined {
  if (limits.length === 0) throw new RangeError('at least one limit is needed');
  if (!Number.isSafeInteger(cost) || cost < 1) throw new RangeError('cost must be a positive integer');
  if (state.revoked) return { outcome: 'revoked', degraded: false, ...tightest(state, limits, nowMs), remaining: 0 };
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
      retryAfterMs: resetAtMs - nowMs,
    };
  }
  return refusal;
}

/** How each limit stands at `nowMs`, in the order of `limits`. Reads only. */
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

/** What is used of the present window. A stored window that is later than ours belongs to a faster clock: it is adopted, never moved back. */
function usage(state: LimitState, windowMs: number, nowMs: number): { startMs: number; count: number } {
  const ownStartMs = Math.floor(nowMs / windowMs) * windowMs;
  for (const window of state.windows) {
    if (window.window_ms !== windowMs) continue;
    return window.start_ms >= ownStartMs
      ? { startMs: window.start_ms, count: window.count }
      : { startMs: ownStartMs, count: 0 };
  }
  return { startMs: ownStartMs, count: 0 };
}
