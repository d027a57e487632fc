// Admits calls from the blocks of a key in the memory of this instance. No I/O and no clock.
import type { RateDecision, TakeRequest } from '../limiter.ts';
import { areBlocksAllowed } from '../windows/block-policy.ts';
import { EMPTY_STATE } from '../windows/limit-state.ts';
import { tightestLabel } from '../windows/windows.ts';
import type { Entry } from './entries.ts';
import type { Moment } from './outage.ts';

/** Blocks admit calls for this long after the key was certainly not revoked. */
const FRESH_MS = 2_000;

/** Returns undefined for a call that no block can admit. */
export function admitFromBlocks(entry: Entry, request: TakeRequest, time: Moment): RateDecision | undefined {
  if (!areBlocksAllowed(request.limits) || time.atMs - entry.upkeep.freshAtMs >= FRESH_MS) return undefined;
  const block = entry.held.take(request, time);
  if (block === undefined) return undefined;
  const { limit, remaining, resetAtMs } = tightestLabel(entry.state ?? EMPTY_STATE, block);
  // The stored counts include what this instance has left in its blocks.
  const left = Math.min(limit, remaining + entry.held.usableLeft(time));
  return { outcome: 'admitted', degraded: false, limit, remaining: left, resetAtMs };
}
