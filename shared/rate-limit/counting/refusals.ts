// Decides how long a refusal is valid, and when its caller should retry. No I/O and no clock. A give-back lowers the
// count of a window, but the count without the calls in blocks only grows, whatever happens to a block. So a refusal
// that does not depend on blocks is valid until its window ends, and any other one for a second.
import type { Limit } from '../../config/values/limits.ts';
import type { RateDecision, TakeRequest } from '../limiter.ts';
import { withoutBlocks } from '../windows/blocks.ts';
import { EMPTY_STATE, type LimitState } from '../windows/limit-state.ts';
import { refuse } from '../windows/windows.ts';
import type { Entry } from './entries.ts';
import type { Moment } from './outage.ts';

/**
 * A remembered refusal is used this long before the document is read again, so that a reset by an operator takes effect
 * within a minute.
 */
const RECHECK_MS = 60_000;
/** The same for a revocation. Shorter, so that a withdrawn revocation takes effect within seconds. */
const REVOKED_RECHECK_MS = 5_000;
/** The same for a refusal that a give-back may end, and the time after which its caller should retry. */
const HELD_RECHECK_MS = 1_000;
/**
 * A block that ended longer ago, or ends later, is not expected back: its instance has stopped or has a wrong clock.
 */
const EXPECTED_MS = 20_000;

export interface Refusal {
  readonly decision: RateDecision;
  /** It may be repeated for this long after the state was the stored one, milliseconds. */
  readonly lastsMs: number;
  /** No block causes it. */
  readonly isLasting: boolean;
}

/** States without their blocks, computed once per state, because the calls of a refused owner need them often. */
const bare = new WeakMap<LimitState, LimitState>();

/** The refusal of a call by a stored state, or undefined when it fits. */
export function refusalOf(
  state: LimitState,
  limits: readonly Limit[],
  cost: number,
  nowMs: number,
): Refusal | undefined {
  const decision = refuse(state, limits, cost, nowMs);
  if (decision === undefined) return undefined;
  if (decision.outcome === 'revoked') return { decision, lastsMs: REVOKED_RECHECK_MS, isLasting: true };
  let without = bare.get(state);
  if (without === undefined) {
    without = withoutBlocks(state);
    bare.set(state, without);
  }
  if (without === state) return { decision, lastsMs: RECHECK_MS, isLasting: true };
  const lasting = refuse(without, limits, cost, nowMs);
  if (lasting !== undefined) {
    return { decision: withRetry(decision, lasting.retryAfterMs), lastsMs: RECHECK_MS, isLasting: true };
  }
  const expected = withoutBlocks(state, ({ until_ms }) => Math.abs(nowMs - until_ms) < EXPECTED_MS);
  const mayReturn = refuse(expected, limits, cost, nowMs) === undefined;
  const retryAfterMs = Math.min(HELD_RECHECK_MS, decision.retryAfterMs ?? HELD_RECHECK_MS);
  return {
    decision: mayReturn ? withRetry(decision, retryAfterMs) : decision,
    lastsMs: HELD_RECHECK_MS,
    isLasting: false,
  };
}

/** Whether a refused call would fit without the blocks `own` of this instance, which are in use. */
export function wouldFitWithout(
  own: ReadonlyMap<string, number>,
  state: LimitState,
  { limits, cost }: { readonly limits: readonly Limit[]; readonly cost: number },
  nowMs: number,
): boolean {
  if (own.size === 0) return false;
  return (
    refuse(
      withoutBlocks(state, ({ id }) => own.has(id)),
      limits,
      cost,
      nowMs,
    ) === undefined
  );
}

/**
 * A refusal computed from the state of the last transaction costs no store operation, and ends when its window ends.
 * One that blocks of this instance cause is no reason to refuse.
 */
export function cachedRefusal(
  { state, held, confirmedAtMs }: Pick<Entry, 'state' | 'held' | 'confirmedAtMs'>,
  request: TakeRequest,
  { nowMs, atMs }: Moment,
): RateDecision | undefined {
  const refusal = refusalOf(state ?? EMPTY_STATE, request.limits, request.cost, nowMs);
  if (refusal === undefined || atMs - confirmedAtMs >= refusal.lastsMs) return undefined;
  if (refusal.isLasting || state === undefined) return refusal.decision;
  return wouldFitWithout(held.leftById(), state, request, nowMs) ? undefined : refusal.decision;
}

function withRetry(decision: RateDecision, retryAfterMs: number | undefined): RateDecision {
  return retryAfterMs === undefined ? decision : { ...decision, retryAfterMs };
}
