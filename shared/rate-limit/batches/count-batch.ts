// The transaction of the limiter: counts the calls that wait on one key in one commit, takes and gives back blocks in
// the same one, and keeps the document that it read or wrote for the next one. A call that is alone may have the first
// commit of its method carried along (store/ride.ts).
import type { Clock } from '../../clock.ts';
import type { Logger } from '../../log.ts';
import type { Ride } from '../../store/ride.ts';
import type { Snapshot, Store } from '../../store/store.ts';
import { type Decision, transact } from '../../store/transact.ts';
import type { Entry, Waiting } from '../counting/entries.ts';
import type { Outage } from '../counting/outage.ts';
import type { BlockPlan } from '../counting/take-blocks.ts';
import type { Timers } from '../counting/timers.ts';
import { addDemand, retryPauseMs } from '../windows/block-policy.ts';
import { pruneHolders } from '../windows/blocks.ts';
import { toLimitState, toLimitWrite } from '../windows/limit-document.ts';
import { EMPTY_STATE } from '../windows/limit-state.ts';
import { isProbablyCurrent, observe } from '../windows/traffic.ts';
import { type BatchDecision, type BlockIds, createComputeRound, type Round } from './compute-round.ts';
import { isUnavailable } from './failed-batch.ts';

/** Deadline of a probe during an outage, shorter than that of an ordinary call. */
const PROBE_TIMEOUT_MS = 1_000;
/** Rounds and milliseconds without the store's lock where blocks are allowed: the lock stops all other instances. */
const BLOCK_ROUNDS_MAX = 1_000;
const BLOCK_OPTIMISTIC_MS = 20_000;
/** Longest wait for the writes of a call beside the read of the limiter. */
const RIDE_WAIT_MS_MAX = 500;
/** Weight of a new duration in the smoothed one. */
const COMMIT_WEIGHT = 0.2;

export interface CountBatchDeps extends BlockIds {
  readonly store: Store;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Logger | undefined;
  readonly outage: Outage;
  readonly optimisticMs: number;
  readonly timeoutMs: number;
  readonly lockTimeoutMs: number;
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
  /** Of a call that is alone in the batch. */
  readonly ride: Ride | undefined;
}

/** Returns the decision of each call of `batch`, to which calls are added. Throws what the store throws. */
export type CountBatch = (entry: Entry, batch: Waiting[], options: BatchOptions) => Promise<readonly BatchDecision[]>;

export function createCountBatch(deps: CountBatchDeps): CountBatch {
  const { store, clock, timers, log, outage, optimisticMs, timeoutMs, lockTimeoutMs } = deps;
  const waits = { monotonic: () => clock.monotonic(), pause: timers.pause, random: timers.random };
  return async (entry, batch, { planOf, arrived, mustRead, isPatient, ride }) => {
    const startMs = clock.monotonic();
    const known = entry.snapshot;
    const trusted = known !== undefined && !mustRead && isProbablyCurrent(entry.traffic, startMs - entry.confirmedAtMs);
    const computeRound = createComputeRound(deps, entry, batch);
    let round: Round | undefined;
    let tried: Snapshot | undefined;
    /** The round whose commit was sent with the writes of the ride. */
    let joint: Round | undefined;
    let isAlone = false;
    let sinceMs = startMs;

    const compute = ([snapshot]: readonly Snapshot[]): Decision<BatchDecision[]> => {
      if (!isAlone) batch.push(...arrived());
      const time = { nowMs: clock.now(), atMs: clock.monotonic() };
      // The commit of the round before was lost to another instance, not to the documents of a rider.
      if (tried !== undefined && tried.version !== snapshot?.version) addDemand(entry.demand, time.atMs, 0, 1);
      if (joint !== undefined) ride?.end('lost');
      round = computeRound(toLimitState(snapshot), planOf(), time);
      const { result, isWritten, state } = round;
      const [first] = result;
      const mayRide = tried === undefined && isWritten && result.length === 1 && typeof first === 'object';
      const riders = mayRide && first.outcome === 'admitted' ? ride?.offered?.writes : undefined;
      joint = riders && round;
      if (!isWritten) return { writes: [], result };
      tried = snapshot;
      return { writes: [toLimitWrite(entry.ref, pruneHolders(state, time.nowMs))], result, riders };
    };

    const options = {
      optimisticMs: isPatient ? BLOCK_OPTIMISTIC_MS : optimisticMs,
      ...(isPatient && {
        roundsMax: BLOCK_ROUNDS_MAX,
        jitterMs: (lost: number) => retryPauseMs(round?.found ?? EMPTY_STATE, deps.holderId, lost, clock.now()),
      }),
      lockTimeoutMs,
      timeoutMs: outage.open ? PROBE_TIMEOUT_MS : timeoutMs,
      waits,
    };
    const cached = trusted ? [known] : undefined;
    const ready = ride && (() => untilOffered(ride, timers, trusted ? 0 : clock.monotonic() - startMs));
    const committed = await transact(store, [entry.ref], compute, { ...options, cached, ready }).catch((error) => {
      const proof = ride?.offered?.proof;
      const sent = joint;
      if (sent === undefined || (proof === undefined && isUnavailable(error))) throw error;
      // The commit of the call and its rider may be stored. If the rider is, so is the call. Else the call is counted
      // now, and that commit cannot be stored any more, because it requires the version before. A rider with invalid
      // writes is not stored, and gets the error of its own commit.
      isAlone = true;
      sinceMs = clock.monotonic();
      const computeAgain = (snapshots: readonly Snapshot[]): Decision<BatchDecision[]> => {
        if (proof?.isStored(snapshots[1]) !== true) return compute(snapshots);
        round = sent;
        return { writes: [], result: sent.result };
      };
      return transact(store, proof === undefined ? [entry.ref] : [entry.ref, proof.ref], computeAgain, options);
    });
    const doneMs = clock.monotonic();
    if (joint !== undefined) ride?.end(committed.riders ?? 'lost');
    if (round !== undefined) updateEntry(entry, committed.snapshots[0], round, { sinceMs, doneMs });
    const lastedMs = outage.succeeded(doneMs);
    if (lastedMs !== undefined) log?.log('NOTICE', 'rate limiter store is back', { outage_ms: lastedMs });
    return committed.result;
  };
}

/** Keeps what a transaction has stored; `snapshot` is the document after it. */
function updateEntry(
  entry: Entry,
  snapshot: Snapshot | undefined,
  { found, plan, giveBacks, taken, atMs }: Round,
  { sinceMs, doneMs }: { readonly sinceMs: number; readonly doneMs: number },
): void {
  observe(entry.traffic, entry.state, entry.confirmedAtMs, found, doneMs);
  entry.snapshot = snapshot;
  entry.state = toLimitState(snapshot);
  entry.confirmedAtMs = doneMs;
  entry.upkeep.commitMs += COMMIT_WEIGHT * (doneMs - sinceMs - entry.upkeep.commitMs);
  entry.held.givenBack(giveBacks);
  if (entry.state.revoked) {
    entry.held.surrender();
    return;
  }
  entry.upkeep.freshAtMs = atMs;
  for (const block of taken.blocks) entry.held.add(block);
  if (taken.blocks.length > 0) entry.upkeep.pausedUntilMs = Number.NEGATIVE_INFINITY;
  if (plan?.mayTake) entry.upkeep.holders = taken.holders;
}

/**
 * Waits for the writes of a call that rides along: those that need no read are offered within two iterations of the
 * event loop, and others are waited for as long as the read of the limiter has taken, `readMs`.
 */
async function untilOffered(ride: Ride, timers: Timers, readMs: number): Promise<void> {
  await Promise.race([ride.ready, new Promise<void>((resolve) => timers.soon(() => timers.soon(resolve)))]);
  if (readMs === 0 || ride.offered !== undefined || !ride.isExpected) return;
  const waited = new AbortController();
  const pause = timers.pause(Math.min(readMs, RIDE_WAIT_MS_MAX), waited.signal).catch(() => {});
  await Promise.race([ride.ready, pause]);
  waited.abort();
}
