// The limiter over any Store: one document per key, one optimistic transaction in flight per key and process, which all
// waiting requests join. The calls of a busy owner are admitted from blocks in memory. This file owns the queues and
// applies the outage rule (outage.ts); count-batch.ts owns the transaction, windows.ts the arithmetic, block-keeper.ts
// the blocks and the transactions that no call waits for.
import { settledWithin } from '../async.ts';
import { type Clock, type Ids, randomIds } from '../clock.ts';
import { RpcError } from '../errors.ts';
import { errorFields, type Logger } from '../log.ts';
import { NewerFormat } from '../store/define-document.ts';
import type { Ride } from '../store/ride.ts';
import type { Store } from '../store/store.ts';
import { createBlockKeeper } from './counting/block-keeper.ts';
import { createCountBatch } from './counting/count-batch.ts';
import { createEntries, type Entry, type Waiting } from './counting/entries.ts';
import { createOutage, unavailable } from './counting/outage.ts';
import { cachedRefusal } from './counting/refusals.ts';
import { systemTimers, type Timers } from './counting/timers.ts';
import type { Limiter, RateDecision, TakeRequest } from './limiter.ts';
import { areBlocksAllowed } from './windows/block-policy.ts';

/** Time for the give-backs when the process ends. */
const CLOSE_MS = 1_000;
/** Writes of a call that has waited longer, behind other calls of its key, are not carried: they contain its time. */
const RIDE_QUEUED_MS_MAX = 1_000;

export interface DocumentLimiterOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log?: Logger;
  /**
   * Whether calls of busy keys may be counted ahead. It saves nothing where the store is in this process: calls that
   * arrive together share a commit of less than a millisecond.
   */
  readonly hasBlocks?: boolean;
  /** Makes the ids of blocks and of this instance as their holder. */
  readonly ids?: Ids;
  readonly timers?: Timers;
  /** Keys cached at most; the least recently used idle one is evicted first (its next call costs a read). */
  readonly keysMax?: number;
  /** Calls that may wait on one key, and on all keys together; one more is answered `unavailable`. */
  readonly waitingPerKeyMax?: number;
  readonly waitingMax?: number;
  /** Milliseconds of optimistic retries before the transaction waits for the store's lock. */
  readonly optimisticMs?: number;
  /** Deadline of each store operation, milliseconds, and of the lock with its queue. */
  readonly timeoutMs?: number;
  readonly lockTimeoutMs?: number;
}

/**
 * Never over-admits on any number of instances: an admission is returned only after the commit that counted it. A
 * commit whose outcome is unknown admits no call. `take` rejects with the signal's reason when the signal aborts before
 * the decision, and with RangeError when `limits` is empty or `cost` is invalid; every other outcome is a RateDecision.
 */
export function createDocumentLimiter(options: DocumentLimiterOptions): Limiter {
  const { store, clock, log, hasBlocks = true, ids = randomIds, timers = systemTimers } = options;
  const { keysMax = 10_000, waitingPerKeyMax = 10_000, waitingMax = 20_000 } = options;
  const { optimisticMs = 400, timeoutMs = 2_000, lockTimeoutMs = 6_000 } = options;
  const { entryOf, withBlocks } = createEntries(keysMax, timers.random);
  const outage = createOutage(timers.random);
  const countBatch = createCountBatch({
    ...{ store, clock, timers, log, outage, optimisticMs, timeoutMs, lockTimeoutMs },
    holderId: ids.next('holder'),
    nextBlockId: () => ids.next('block'),
  });
  const run = (entry: Entry, mustRead: boolean): void => start(entry, mustRead);
  const keeper = createBlockKeeper({ hasBlocks, clock, timers, outage, run });
  let waitingCount = 0;
  let isClosing = false;

  function take(request: TakeRequest): Promise<RateDecision> {
    const entry = entryOf(request.keyId);
    const nowMs = clock.now();
    const atMs = clock.monotonic();
    const admitted = request.signal?.aborted ? undefined : keeper.admit(entry, request, { nowMs, atMs });
    if (admitted !== undefined) {
      keeper.observe(entry, request, atMs);
      keeper.proceed(entry);
      return Promise.resolve(admitted);
    }
    try {
      const refusal = cachedRefusal(entry, request, { nowMs, atMs });
      if (refusal !== undefined) return Promise.resolve(refusal);
    } catch (error) {
      return Promise.reject(error);
    }
    if (request.signal?.aborted) return Promise.reject(request.signal.reason);
    keeper.observe(entry, request, atMs);
    if (waitingCount >= waitingMax || entry.waiting.length >= waitingPerKeyMax) {
      return Promise.resolve(unavailable(request.limits, 1_000, nowMs));
    }
    if (!outage.mayTry(atMs)) return Promise.resolve(outage.decide(request, entry.bucket, { nowMs, atMs }));
    return new Promise((resolve, reject) => {
      entry.waiting.push({ request, queuedAtMs: atMs, resolve, reject });
      waitingCount++;
      schedule(entry);
    });
  }

  /** `soon` runs after the requests that this iteration of the event loop has parsed, so they all share one commit. */
  function schedule(entry: Entry): void {
    if (entry.busy || entry.waiting.length === 0) return;
    entry.busy = true;
    timers.soon(() => void runBatch(entry, false));
  }

  /** A transaction that no call waits for: it refills, gives back, or reads. */
  function start(entry: Entry, mustRead: boolean): void {
    if (entry.busy) return;
    entry.busy = true;
    void runBatch(entry, mustRead);
  }

  async function runBatch(entry: Entry, mustRead: boolean): Promise<void> {
    if (isClosing) entry.held.surrender();
    let batch = dequeue(entry).filter((waiting) => !admitFromBlocks(entry, waiting));
    try {
      batch = await decide(entry, batch, mustRead);
      while (batch.length > 0) {
        // These calls fit once this instance has given back its blocks, so they are decided again without blocks.
        entry.held.surrender();
        batch = await decide(entry, batch, false, false);
      }
      entry.upkeep.failures = 0;
    } catch (error) {
      // Requests queued during the failed transaction fail with it: another attempt would make them wait for a second
      // deadline.
      batch = batch.concat(dequeue(entry));
      const failureOf = toDecision(error);
      for (const { request, resolve } of batch) resolve(failureOf(entry, request));
      keeper.failed(entry);
    }
    entry.busy = false;
    schedule(entry);
    keeper.proceed(entry);
  }

  /** Counts and answers the calls of a batch; returns those that blocks of this instance keep from being admitted. */
  async function decide(entry: Entry, batch: Waiting[], mustRead: boolean, mayTakeBlocks = true): Promise<Waiting[]> {
    const planOf = () => keeper.planOf(entry, mayTakeBlocks && !isClosing);
    if (batch.length === 0 && !mustRead && planOf() === undefined) return [];
    const arrived = () => (batch.length < waitingPerKeyMax ? dequeue(entry) : []);
    const isPatient = batch.every(({ request }) => areBlocksAllowed(request.limits));
    const decisions = await countBatch(entry, batch, { planOf, arrived, mustRead, isPatient, ride: rideOf(batch) });
    return batch.filter(({ request, resolve, reject }, index) => {
      const decision = decisions[index];
      if (decision === 'own') return true;
      if (decision === undefined) reject(request.signal?.reason);
      else resolve(decision);
      return false;
    });
  }

  /** During an outage nothing is carried: a probe that fails decides nothing else. */
  function rideOf([waiting, ...others]: readonly Waiting[]): Ride | undefined {
    if (waiting === undefined || others.length > 0 || outage.open) return undefined;
    return clock.monotonic() - waiting.queuedAtMs < RIDE_QUEUED_MS_MAX ? waiting.request.ride : undefined;
  }

  /** Blocks may have arrived since the call was queued. */
  function admitFromBlocks(entry: Entry, { request, resolve }: Waiting): boolean {
    if (request.signal?.aborted) return false;
    const admitted = keeper.admit(entry, request, { nowMs: clock.now(), atMs: clock.monotonic() });
    if (admitted !== undefined) resolve(admitted);
    return admitted !== undefined;
  }

  /**
   * The decision for the calls of a failed transaction. Only an unreachable store counts as an outage; a document that
   * cannot be read affects one key only.
   */
  function toDecision(error: unknown): (entry: Entry, request: TakeRequest) => RateDecision {
    const nowMs = clock.now();
    if (error instanceof RpcError && error.reason === 'unavailable' && !(error instanceof NewerFormat)) {
      const atMs = clock.monotonic();
      if (outage.failed(atMs)) log?.log('ERROR', 'rate limiter store unavailable', errorFields(error));
      return (entry, request) => outage.decide(request, entry.bucket, { nowMs, atMs });
    }
    log?.log('ERROR', 'rate limiter transaction failed', errorFields(error));
    return (_entry, request) => unavailable(request.limits, 1_000, nowMs);
  }

  function dequeue(entry: Entry): Waiting[] {
    const waiting = entry.waiting;
    entry.waiting = [];
    waitingCount -= waiting.length;
    return waiting;
  }

  /** A free call joins the next transaction of its key, which gives back. */
  async function close(): Promise<void> {
    isClosing = true;
    const done = withBlocks().map((keyId) => {
      const { held, upkeep } = entryOf(keyId);
      held.surrender();
      return take({ keyId, limits: upkeep.limits, cost: 0, mayDegrade: true });
    });
    await settledWithin(CLOSE_MS, Promise.all(done));
  }

  return { take, close };
}
