// Chooses the stored window in which a call is counted when the clocks of instances differ. A window is identified by
// its label, the time at which it starts, and no label admits more calls than the limit. A call is counted in a window
// that a clock slightly ahead has started. A window that starts much later was started by a wrong clock: it is kept for
// that clock and does not limit the others. No I/O; windows.ts does the counting.
//
// Example with minute windows. Clock A counts at 12:00, 12:01, 12:02 and 12:03. Each new window closes the label before
// it, so one window is stored: {start 12:03, since 12:00}. Clock B is three minutes slow and shows 12:00. The label
// 12:00 is closed, so B counts in the window 12:03, whose limit A and B share. Clock C is an hour fast and counts at
// 13:03. Both windows are stored: A goes on in 12:03, C in 13:03.

/** One stored window: `count` calls admitted since `start_ms` (epoch milliseconds, a multiple of `window_ms`). */
export interface WindowCount {
  readonly window_ms: number;
  readonly start_ms: number;
  readonly count: number;
  /** Labels from here up to `start_ms` are closed: their counts are deleted, and slower clocks count in this window. */
  readonly since_ms?: number;
  /** Only blocks were counted in this label so far, before its start; the label before it is still open. */
  readonly early?: true;
}

/** A closed label lies at most this far before the window that replaces it, milliseconds. */
const CLOSED_MS_MAX = 5 * 60_000;
/** Most windows of one length in a document: one for each group of clocks that differ by more than a window. */
const LABELS_MAX = 4;

/**
 * The window in which a call at `nowMs` is counted; `stored` holds all windows of the length `windowMs`. It is the
 * latest stored window that starts at most one window after the end of the clock's own window, or that has closed the
 * label of the clock's own window; otherwise the clock's own window, with count 0. An early window is used only where
 * no other fits: at its own time, and after an older version of the gateway, which has no such rule, has closed the
 * label before it.
 */
export function windowFor(stored: readonly WindowCount[], windowMs: number, nowMs: number): WindowCount {
  const ownMs = Math.floor(nowMs / windowMs) * windowMs;
  let open: WindowCount | undefined;
  let early: WindowCount | undefined;
  for (const window of stored) {
    const aheadMs = window.start_ms - ownMs;
    const isNear = aheadMs >= 0 && aheadMs <= 2 * windowMs;
    const isClosed = aheadMs > 2 * windowMs && aheadMs <= CLOSED_MS_MAX && sinceOf(window) <= ownMs;
    if (!isNear && !isClosed) continue;
    if (window.early) {
      if (window.start_ms < (early?.start_ms ?? Number.POSITIVE_INFINITY)) early = window;
    } else if (window.start_ms >= (open?.start_ms ?? 0)) open = window;
  }
  return open ?? early ?? { window_ms: windowMs, start_ms: ownMs, count: 0 };
}

/**
 * Inserts `current` into the stored windows of its length, in place of the one with the same label, and closes labels
 * until at most LABELS_MAX windows are left. First it closes every label that lies one window before the next label:
 * the same clock started both. If there are still too many, it closes the label with the smallest distance to the next
 * one. The label of `current` is never closed, and an early window closes none.
 */
export function insertWindow(
  stored: readonly WindowCount[],
  current: WindowCount,
): { readonly current: WindowCount; readonly others: readonly WindowCount[] } {
  const windows = stored.filter(({ start_ms }) => start_ms !== current.start_ms);
  windows.push(current);
  windows.sort((a, b) => a.start_ms - b.start_ms);
  const gapAfter = (index: number): number => {
    const [closed, next] = [windows[index], windows[index + 1]];
    if (closed === undefined || next === undefined || closed.start_ms === current.start_ms) return Infinity;
    if (next.early) return Infinity;
    return next.start_ms - closed.start_ms;
  };
  const closeAt = (index: number): void => {
    const [closed, next] = windows.splice(index, 2);
    if (closed !== undefined && next !== undefined) windows.splice(index, 0, withClosedLabel(next, closed));
  };
  for (let index = windows.length - 2; index >= 0; index--) if (gapAfter(index) <= current.window_ms) closeAt(index);
  while (windows.length > LABELS_MAX) {
    const gaps = windows.map((_, index) => gapAfter(index));
    closeAt(gaps.indexOf(Math.min(...gaps)));
  }
  const isCurrent = ({ start_ms }: WindowCount): boolean => start_ms === current.start_ms;
  return { current: windows.find(isCurrent) ?? current, others: windows.filter((window) => !isCurrent(window)) };
}

/**
 * `next` with the label of `closed` added to its closed labels, at most CLOSED_MS_MAX back. Windows of that length or
 * longer need no such list: `windowFor` counts in a window that starts up to two windows later in any case.
 */
function withClosedLabel(next: WindowCount, closed: WindowCount): WindowCount {
  const { start_ms, window_ms } = next;
  if (window_ms >= CLOSED_MS_MAX || start_ms - closed.start_ms > CLOSED_MS_MAX) return next;
  const sinceMs = Math.max(Math.min(sinceOf(closed), sinceOf(next)), start_ms - CLOSED_MS_MAX);
  return { ...next, since_ms: sinceMs };
}

function sinceOf({ since_ms, start_ms }: WindowCount): number {
  return since_ms ?? start_ms;
}
