// Window arithmetic without I/O and without a clock: counts calls in fixed windows aligned to UTC, and decides whether
// a call fits. window-labels.ts chooses the stored window in which a call is counted. The default windows are in
// config/variables.ts (GATEWAY_LIMITS), their units in config/values/limits.ts.

import type { Limit } from '../../config/values/limits.ts';
import type { RateDecision } from '../limiter.ts';
import type { LimitState, WindowLabel } from './limit-state.ts';
import { insertWindow, type WindowCount, windowFor } from './window-labels.ts';

/**
 * Most window lengths in one document. Windows of limits that are no longer configured are kept until they end, within
 * this bound.
 */
const LENGTHS_MAX = 16;

export interface Charge {
  readonly decision: RateDecision;
  /** The state after the call; the same object as the one passed in if nothing was charged. */
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
  const { state: charged } = addCalls(state, limits, cost, nowMs, nowMs);
  return { decision: { outcome: 'admitted', degraded: false, ...tightest(charged, limits, nowMs) }, state: charged };
}

/**
 * Counts `calls` in the windows that the clock of the instance, now at `nowMs`, will use at `atMs`: now, or when the
 * next window begins. Returns the labels too. A window that has not begun is marked as early and leaves the current
 * one open; the first call counted in it by a clock that has reached it removes the mark.
 */
export function addCalls(
  state: LimitState,
  limits: readonly Limit[],
  calls: number,
  nowMs: number,
  atMs: number,
): { readonly state: LimitState; readonly labels: readonly WindowLabel[] } {
  const lengths = new Set(limits.map(({ windowMs }) => windowMs));
  for (const { window_ms, start_ms } of state.windows) {
    if (lengths.size < LENGTHS_MAX && start_ms + window_ms > nowMs) lengths.add(window_ms);
  }
  const current: WindowCount[] = [];
  const others: WindowCount[] = [];
  const labels: WindowLabel[] = [];
  for (const windowMs of lengths) {
    let stored = state.windows.filter(({ window_ms }) => window_ms === windowMs);
    const own = windowFor(stored, windowMs, nowMs);
    const { early, ...used } = windowFor(stored, windowMs, atMs);
    labels.push({ window_ms: windowMs, start_ms: used.start_ms });
    const counted = { ...used, count: used.count + calls };
    if (used.start_ms === own.start_ms) {
      const kept = insertWindow(stored, counted);
      current.push(kept.current);
      others.push(...kept.others);
      continue;
    }
    // The current label must be stored, or every clock would count in the early window from now on.
    if (!stored.some(({ start_ms }) => start_ms === own.start_ms)) {
      const kept = insertWindow(stored, own);
      stored = [kept.current, ...kept.others];
    }
    const isEarly = early === true || !stored.some(({ start_ms }) => start_ms === used.start_ms);
    const kept = insertWindow(stored, isEarly ? { ...counted, early: true } : counted);
    const all = [kept.current, ...kept.others];
    for (const window of all) (window.start_ms === own.start_ms ? current : others).push(window);
  }
  // The windows of this clock come first, because older versions of the gateway read only the first of each length.
  return { state: { ...state, windows: [...current, ...others] }, labels };
}

/**
 * The refusal of a call, or undefined when it fits. Without blocks the count of a stored window only grows, so a
 * refusal computed from an old state is valid for the current one too (unless an operator reset the document); what
 * blocks change is in refusals.ts. `retryAfterMs` is at most the length of the window, also if a clock that is ahead
 * wrote the stored window.
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
  // A free call fails only for a revoked key.
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

/** Calls left and reset time of each limit at `nowMs`, in the order of `limits`. Does not charge. */
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
export function tightest(state: LimitState, limits: readonly Limit[], nowMs: number) {
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

/** The same for calls that are counted in the labels `windows`. A label that is no longer stored has no call left. */
export function tightestLabel(
  { windows: stored }: LimitState,
  { limits, windows: labels }: { readonly limits: readonly Limit[]; readonly windows: readonly WindowLabel[] },
) {
  const windows = labels.flatMap((label) => {
    const found = stored.find((each) => each.window_ms === label.window_ms && each.start_ms === label.start_ms);
    const max = limits.find(({ windowMs }) => windowMs === label.window_ms)?.max;
    if (max === undefined) return [];
    const remaining = found === undefined ? 0 : Math.max(0, max - found.count);
    return [{ limit: max, remaining, resetAtMs: label.start_ms + label.window_ms }];
  });
  return windows.reduce((a, b) =>
    b.remaining < a.remaining || (b.remaining === a.remaining && b.resetAtMs > a.resetAtMs) ? b : a,
  );
}

function usage(state: LimitState, windowMs: number, nowMs: number): { startMs: number; count: number } {
  const stored = state.windows.filter(({ window_ms }) => window_ms === windowMs);
  const { start_ms, count } = windowFor(stored, windowMs, nowMs);
  return { startMs: start_ms, count };
}
