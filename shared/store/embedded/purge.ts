// Deletes expired documents of the embedded store, some of them after every PURGE_EVERY_COMMITS commits.
import type { WallClock } from '../../clock.ts';
import type { Documents } from './documents.ts';

/** One purge deletes more documents than this number of commits usually adds. */
const PURGE_EVERY_COMMITS = 64;
/** A larger step of the wall clock, compared to the monotonic one, restarts the time for which it must be steady. */
const STEP_MS_MAX = 60_000;

/**
 * Returns the function that every commit calls. Documents are deleted only after the clock has been steady for
 * `steadyMs`: a clock that is wrong for a moment must not delete documents that have not expired.
 */
export function createPurge(documents: Documents, clock: WallClock, steadyMs: number): () => void {
  let commits = 0;
  let steady = { wallMs: clock.now(), atMs: performance.now() };

  return () => {
    if (++commits % PURGE_EVERY_COMMITS !== 0) return;
    const now = { wallMs: clock.now(), atMs: performance.now() };
    const passedMs = now.atMs - steady.atMs;
    if (Math.abs(now.wallMs - steady.wallMs - passedMs) > STEP_MS_MAX) steady = now;
    if (now.atMs - steady.atMs < steadyMs) return;
    try {
      documents.purge();
    } catch {
      // A purge may fail (locked, disk full); readers ignore expired documents in any case.
    }
  };
}
