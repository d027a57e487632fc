// Computes a transaction of the limiter from the document: the decisions of the calls, the blocks that it takes and
// gives back, and the state to store. No I/O and no clock.
import type { Entry, Waiting } from '../counting/entries.ts';
import type { Moment } from '../counting/outage.ts';
import { refusalOf, wouldFitWithout } from '../counting/refusals.ts';
import { type BlockPlan, type Taken, type Taker, takeBlocks } from '../counting/take-blocks.ts';
import type { RateDecision } from '../limiter.ts';
import { type GiveBack, updateHolder } from '../windows/blocks.ts';
import type { LimitState } from '../windows/limit-state.ts';
import { charge } from '../windows/windows.ts';

export interface BlockIds {
  /** The id of this instance in the documents of the keys that it counts in blocks. */
  readonly holderId: string;
  /** Returns the id of a new block. */
  readonly nextBlockId: () => string;
}

/** `own`: blocks of this instance keep the call from being admitted. Undefined: its signal has aborted. */
export type BatchDecision = RateDecision | 'own' | undefined;

/** One computation of the transaction: what it decides, and what becomes true when its commit is stored. */
export interface Round {
  readonly found: LimitState;
  readonly state: LimitState;
  readonly isWritten: boolean;
  readonly result: BatchDecision[];
  readonly plan: BlockPlan | undefined;
  readonly giveBacks: readonly GiveBack[];
  readonly taken: Taken;
  /** Monotonic milliseconds. */
  readonly atMs: number;
}

/** Returns the computation of one transaction: its blocks have the same ids in each round. */
export function createComputeRound(
  { holderId, nextBlockId }: BlockIds,
  entry: Entry,
  batch: readonly Waiting[],
): (found: LimitState, plan: BlockPlan | undefined, time: Moment) => Round {
  const ids = createBlockIds(nextBlockId);
  return (found, plan, time) => {
    const { nowMs, atMs } = time;
    // Read together, because a block that ends while the transaction runs moves from one list to the other.
    const giveBacks = [...entry.held.toGiveBack];
    const left = entry.held.leftById();
    const before = plan ? updateHolder(found, { id: holderId, rate: plan.rate, left, giveBacks }, nowMs) : found;
    let state = before;
    const result = batch.map(({ request }): BatchDecision => {
      if (request.signal?.aborted) return undefined;
      const charged = charge(state, request.limits, request.cost, nowMs);
      state = charged.state;
      if (charged.decision.outcome !== 'rate_limited') return charged.decision;
      if (wouldFitWithout(left, state, request, nowMs)) return 'own';
      return refusalOf(state, request.limits, request.cost, nowMs)?.decision ?? charged.decision;
    });
    let taken: Taken = { blocks: [], holders: 1 };
    if (plan?.mayTake) {
      const took = takeBlocks(state, plan, { id: holderId, held: entry.held, upkeep: entry.upkeep, ids }, time);
      taken = took.taken;
      state = took.state;
    }
    // A transaction without a call, a block or a give-back would only renew `seen_ms`, which is not worth a write.
    const isWritten = state !== before || (giveBacks.length > 0 && before !== found);
    return { found, state, isWritten, result, plan, giveBacks, taken, atMs };
  };
}

/** The ids of the blocks of one transaction, made when a round first takes one: most transactions take none. */
function createBlockIds(next: () => string): Taker['ids'] {
  let ofNow: string | undefined;
  let ofNext: string | undefined;
  return { now: () => (ofNow ??= next()), next: () => (ofNext ??= next()) };
}
