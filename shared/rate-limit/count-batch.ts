// The transaction of the limiter: counts the calls that wait on one key in one commit, takes and gives back blocks in
// the same one, and keeps the document that it read or wrote for the next one.
import type { Clock } from '../clock.ts';
import type { Limit } from '../config/limits.ts';
import type { Logger } from '../log.ts';
import type { Snapshot, Store } from '../store/store.ts';
import { type Decision, transact } from '../store/transact.ts';
import { addDemand, retryPauseMs } from './block-policy.ts';
import { type GiveBack, pruneHolders, updateHolder } from './blocks.ts';
import type { Entry, Waiting } from './entries.ts';
import { toLimitState, toLimitWrite } from './limit-document.ts';
import type { RateDecision } from './limiter.ts';
import type { Outage } from './outage.ts';
import { refusalOf, wouldFitWithout } from './refusals.ts';
import { type Taken, type Taker, takeBlocks } from './take-blocks.ts';
import type { Timers } from './timers.ts';
import { isProbablyCurrent, observe } from './traffic.ts';
import { charge, EMPTY_STATE } from './windows.ts';

/** Deadline of a probe during an outage, shorter than that of an ordinary call. */
const PROBE_TIMEOUT_MS = 1_000;
/** Rounds and milliseconds without the store's lock where blocks are allowed: the lock stops all other instances. */
const BLOCK_ROUNDS_MAX = 1_000;
const BLOCK_OPTIMISTIC_MS = 20_000;
/** Weight of a new duration in the smoothed one. */
const COMMIT_WEIGHT = 0.2;

export interface CountBatchDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Logger | undefined;
  readonly outage: Outage;
  /** The id of this instance in the documents of the keys that it counts in blocks. */
  readonly holderId: string;
  /** Returns the id of a new block. */
  readonly nextBlockId: () => string;
  readonly optimisticMs: number;
  readonly timeoutMs: number;
  readonly lockTimeoutMs: number;
}

/** What a transaction does besides counting its calls; undefined: the key is not counted in blocks. */
export interface BlockPlan {
  readonly limits: readonly Limit[];
  /** Calls a second of the owner on this instance. */
  readonly rate: number;
  readonly mayTake: boolean;
}

export interface BatchOptions {
  /** Evaluated in each round, because lost rounds are a reason for blocks. */
  readonly planOf: () => BlockPlan | undefined;
  /** Removes the calls that have arrived since the last round from the queue: they join the batch. */
  readonly arrived: () => readonly Waiting[];
  /** Read the document, also if nothing is written. */
  readonly mustRead: boolean;
  /** Blocks are allowed, so the store's lock, which stops all other instances, is the last resort. */
  readonly isPatient: boolean;
}

/** `own`: blocks of this instance keep the call from being admitted. Undefined: its signal has aborted. */
export type BatchDecision = RateDecision | 'own' | undefined;

/** Returns the decision of each call of `batch`, to which calls are added. Throws what the store throws. */
export type CountBatch = (entry: Entry, batch: Waiting[], options: BatchOptions) => Promise<readonly BatchDecision[]>;

export function createCountBatch(deps: CountBatchDeps): CountBatch {
  const { store, clock, timers, log, outage, holderId, optimisticMs, timeoutMs, lockTimeoutMs } = deps;
  const waits = { monotonic: () => clock.monotonic(), pause: timers.pause, random: timers.random };
  return async (entry, batch, { planOf, arrived, mustRead, isPatient }) => {
    const startMs = clock.monotonic();
    const known = entry.snapshot;
    const trusted = known !== undefined && !mustRead && isProbablyCurrent(entry.traffic, startMs - entry.confirmedAtMs);
    const ids = createBlockIds(deps.nextBlockId);
    let found = EMPTY_STATE;
    let plan: BlockPlan | undefined;
    let commits = 0;
    let giveBacks: readonly GiveBack[] = [];
    let taken: Taken = { blocks: [], holders: 1 };
    let computedAtMs = startMs;

    const compute = (snapshots: readonly Snapshot[]): Decision<BatchDecision[]> => {
      found = toLimitState(snapshots[0]);
      batch.push(...arrived());
      const nowMs = clock.now();
      computedAtMs = clock.monotonic();
      // The commit of the round before was lost to another instance.
      if (commits > 0) addDemand(entry.demand, computedAtMs, 0, 1);
      plan = planOf();
      // Read together, because a block that ends while the transaction runs moves from one list to the other.
      giveBacks = [...entry.held.toGiveBack];
      const left = entry.held.leftById();
      let state = plan ? updateHolder(found, { id: holderId, rate: plan.rate, left, giveBacks }, nowMs) : found;
      const before = state;
      const result = batch.map(({ request }): BatchDecision => {
        if (request.signal?.aborted) return undefined;
        const charged = charge(state, request.limits, request.cost, nowMs);
        state = charged.state;
        if (charged.decision.outcome !== 'rate_limited') return charged.decision;
        if (wouldFitWithout(left, state, request, nowMs)) return 'own';
        return refusalOf(state, request.limits, request.cost, nowMs)?.decision ?? charged.decision;
      });
      taken = { blocks: [], holders: 1 };
      if (plan?.mayTake) {
        const time = { nowMs, atMs: computedAtMs };
        const took = takeBlocks(state, plan, { id: holderId, held: entry.held, upkeep: entry.upkeep, ids }, time);
        taken = took.taken;
        state = took.state;
      }
      // A transaction without a call, a block or a give-back would only renew `seen_ms`, which is not worth a write.
      const isWritten = state !== before || (giveBacks.length > 0 && before !== found);
      if (isWritten) commits++;
      return { writes: isWritten ? [toLimitWrite(entry.ref, pruneHolders(state, nowMs))] : [], result };
    };

    const committed = await transact(store, [entry.ref], compute, {
      cached: trusted ? [known] : undefined,
      optimisticMs: isPatient ? BLOCK_OPTIMISTIC_MS : optimisticMs,
      ...(isPatient && {
        roundsMax: BLOCK_ROUNDS_MAX,
        jitterMs: (round: number) => retryPauseMs(found, holderId, round, clock.now()),
      }),
      lockTimeoutMs,
      timeoutMs: outage.open ? PROBE_TIMEOUT_MS : timeoutMs,
      waits,
    });
    const doneMs = clock.monotonic();
    observe(entry.traffic, entry.state, entry.confirmedAtMs, found, doneMs);
    entry.snapshot = committed.snapshots[0];
    entry.state = toLimitState(entry.snapshot);
    entry.confirmedAtMs = doneMs;
    entry.upkeep.commitMs += COMMIT_WEIGHT * (doneMs - startMs - entry.upkeep.commitMs);
    entry.held.givenBack(giveBacks);
    if (entry.state.revoked) entry.held.surrender();
    else {
      entry.upkeep.freshAtMs = computedAtMs;
      for (const block of taken.blocks) entry.held.add(block);
      if (taken.blocks.length > 0) entry.upkeep.pausedUntilMs = Number.NEGATIVE_INFINITY;
      if (plan?.mayTake) entry.upkeep.holders = taken.holders;
    }
    const lastedMs = outage.succeeded(doneMs);
    if (lastedMs !== undefined) log?.log('NOTICE', 'rate limiter store is back', { outage_ms: lastedMs });
    return committed.result;
  };
}

/** The ids of the blocks of one transaction, made when a round first takes one: most transactions take none. */
function createBlockIds(next: () => string): Taker['ids'] {
  let ofNow: string | undefined;
  let ofNext: string | undefined;
  return {
    get now() {
      ofNow ??= next();
      return ofNow;
    },
    get next() {
      ofNext ??= next();
      return ofNext;
    },
  };
}
