// Removes expired documents of the embedded store for good, some along with every so many commits.
import type { WallClock } from '../../clock.ts';
import type { Documents } from './documents.ts';

/** One purge removes more documents than so many commits can have added. */
const PURGE_EVERY_COMMITS = 64;
/** A step of the clock beyond it, against the monotonic one, starts the time that it must be steady for anew. */
const STEP_MS_MAX = 60_000;

/**
 * Returns the function that every commit calls. Documents are removed only by a clock that has been steady for
 * `steadyMs`: what one that is wrong for a moment takes for expired must be there when it is right again.
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
      // Housekeeping may fail (locked, disk full); readers ignore expired documents anyway.
    }
  };
}
