// Which stored window a call counts in when instances disagree about the time. A window is known by its label, the time
// at which it starts, and no label admits more than its limit. A label that a clock near ours has written is adopted;
// one that is further ahead was written by a wrong clock, is kept for that clock, and does not bind ours. Pure;
// windows.ts does the counting.

/**
 * One counted window as stored: `count` calls admitted since `start_ms` (epoch milliseconds, a multiple of
 * `window_ms`).
 */
export interface WindowCount {
  readonly window_ms: number;
  readonly start_ms: number;
  readonly count: number;
  /**
   * Labels from here to `start_ms` are closed: their counts are not kept, so a slower clock counts in this window
   * instead.
   */
  readonly since_ms?: number;
}

/** How far a closed label may lie behind the window that a slow clock adopts instead of it, milliseconds. */
const CLOSED_MS_MAX = 5 * 60_000;
/**
 * Labels of one window length kept apart: that of each group of clocks which are more than a window from each other.
 */
const LABELS_MAX = 4;

/**
 * The window of `windowMs` that a call at `nowMs` counts in. `stored`: all of that length. It is the latest one that
 * starts at most one window after the end of the clock's own, or that has closed the clock's own label; else the
 * clock's own, unused.
 */
export function labelFor(stored: readonly WindowCount[], windowMs: number, nowMs: number): WindowCount {
  const ownMs = Math.floor(nowMs / windowMs) * windowMs;
  let found: WindowCount | undefined;
  for (const window of stored) {
    const aheadMs = window.start_ms - ownMs;
    const isNear = aheadMs >= 0 && aheadMs <= 2 * windowMs;
    const isClosed = aheadMs > 2 * windowMs && aheadMs <= CLOSED_MS_MAX && sinceOf(window) <= ownMs;
    if ((isNear || isClosed) && window.start_ms >= (found?.start_ms ?? 0)) found = window;
  }
  return found ?? { window_ms: windowMs, start_ms: ownMs, count: 0 };
}

/**
 * The windows of one length after `current` was counted: it takes the place of the one with its label, and closes the
 * one before it. Others belong to clocks that are far from this one; beyond LABELS_MAX the two that are nearest to each
 * other become one, since that is how the steps of one clock look. A label is forgotten only so, and never that of the
 * call.
 */
export function keepLabels(
  stored: readonly WindowCount[],
  current: WindowCount,
): { readonly current: WindowCount; readonly others: readonly WindowCount[] } {
  const labels = stored.filter(({ start_ms }) => start_ms !== current.start_ms);
  labels.push(current);
  labels.sort((a, b) => a.start_ms - b.start_ms);
  const gapAfter = (index: number): number => {
    const [lower, upper] = [labels[index], labels[index + 1]];
    if (lower === undefined || upper === undefined || lower.start_ms === current.start_ms) return Infinity;
    return upper.start_ms - lower.start_ms;
  };
  const close = (index: number): void => {
    const [lower, upper] = labels.splice(index, 2);
    if (lower !== undefined && upper !== undefined) labels.splice(index, 0, closing(upper, lower));
  };
  for (let index = labels.length - 2; index >= 0; index--) if (gapAfter(index) <= current.window_ms) close(index);
  while (labels.length > LABELS_MAX) {
    const gaps = labels.map((_, index) => gapAfter(index));
    close(gaps.indexOf(Math.min(...gaps)));
  }
  const isCurrent = ({ start_ms }: WindowCount): boolean => start_ms === current.start_ms;
  return { current: labels.find(isCurrent) ?? current, others: labels.filter((window) => !isCurrent(window)) };
}

/**
 * `upper` with the label of `lower` closed, as far back as a slow clock adopts `upper`. One window back each clock does
 * anyway.
 */
function closing(upper: WindowCount, lower: WindowCount): WindowCount {
  const { start_ms, window_ms } = upper;
  if (window_ms >= CLOSED_MS_MAX || start_ms - lower.start_ms > CLOSED_MS_MAX) return upper;
  const sinceMs = Math.max(Math.min(sinceOf(lower), sinceOf(upper)), start_ms - CLOSED_MS_MAX);
  return { ...upper, since_ms: sinceMs };
}

function sinceOf({ since_ms, start_ms }: WindowCount): number {
  return since_ms ?? start_ms;
}
