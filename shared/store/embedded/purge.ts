// Deletes expired documents of the embedded store, some of them after every PURGE_EVERY_COMMITS commits.
import { createSteadiness, type WallClock } from '../../clock.ts';
import type { Documents } from './documents.ts';

/** One purge deletes more documents than this number of commits usually adds. */
const PURGE_EVERY_COMMITS = 64;

/**
 * Returns the function that every commit calls. Documents are deleted only after the clock has been steady for
 * `steadyMs`: a clock that is wrong for a moment must not delete documents that have not expired.
 */
export function createPurge(documents: Documents, clock: WallClock, steadyMs: number): () => void {
  let commits = 0;
  const isSteady = createSteadiness({ now: () => clock.now(), monotonic: () => performance.now() }, steadyMs);

  return () => {
    if (++commits % PURGE_EVERY_COMMITS !== 0) return;
    if (!isSteady()) return;
    try {
      documents.purge();
    } catch {
      // A purge may fail (locked, disk full); readers ignore expired documents in any case.
    }
  };
}
