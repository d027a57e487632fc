// The limiter over any Store: one document per key, one optimistic transaction in flight per key and process, which all
// waiting requests join. The calls of a busy owner are admitted from blocks in memory. This file owns the order in
// which a call is decided: from blocks, by a remembered refusal, by the outage rule (counting/outage.ts), or by a
// transaction (batches/). windows/windows.ts has the arithmetic, counting/block-keeper.ts the transactions that no call
// waits for.
import { settledWithin } from '../async.ts';
import { type Clock, type Ids, randomIds } from '../clock.ts';
import type { Logger } from '../log.ts';
import type { Store } from '../store/store.ts';
import { createCallQueue } from './batches/call-queue.ts';
import { createCountBatch } from './batches/count-batch.ts';
import { createDecideBatch } from './batches/decide-batch.ts';
import { createBatches } from './batches/run-batches.ts';
import { admitFromBlocks } from './counting/admit-from-blocks.ts';
import { createBlockKeeper } from './counting/block-keeper.ts';
import { createEntries, type Entry } from './counting/entries.ts';
import { createOutage, unavailable } from './counting/outage.ts';
import { cachedRefusal } from './counting/refusals.ts';
import { systemTimers, type Timers } from './counting/timers.ts';
import type { Limiter, RateDecision, TakeRequest } from './limiter.ts';

/** Time for the give-backs when the process ends. */
const CLOSE_MS = 1_000;

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
  const queue = createCallQueue({ waitingPerKeyMax, waitingMax });
  const run = (entry: Entry, mustRead: boolean): void => batches.start(entry, mustRead);
  const keeper = createBlockKeeper({ hasBlocks, clock, timers, outage, run });
  const countBatch = createCountBatch({
    ...{ store, clock, timers, log, outage, optimisticMs, timeoutMs, lockTimeoutMs },
    holderId: ids.next('holder'),
    nextBlockId: () => ids.next('block'),
  });
  const decideBatch = createDecideBatch({ clock, outage, keeper, queue, countBatch });
  const batches = createBatches({ clock, timers, log, outage, keeper, queue, decideBatch });

  function take(request: TakeRequest): Promise<RateDecision> {
    const entry = entryOf(request.keyId);
    const nowMs = clock.now();
    const atMs = clock.monotonic();
    const admitted = request.signal?.aborted ? undefined : admitFromBlocks(entry, request, { nowMs, atMs });
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
    if (queue.isFull(entry)) return Promise.resolve(unavailable(request.limits, 1_000, nowMs));
    if (!outage.mayTry(atMs)) return Promise.resolve(outage.decide(request, entry.bucket, { nowMs, atMs }));
    return new Promise((resolve, reject) => {
      queue.add(entry, { request, queuedAtMs: atMs, resolve, reject });
      batches.schedule(entry);
    });
  }

  /** A free call joins the next transaction of its key, which gives back. */
  async function close(): Promise<void> {
    keeper.close();
    const done = withBlocks().map((keyId) => {
      const { held, upkeep } = entryOf(keyId);
      held.surrender();
      return take({ keyId, limits: upkeep.limits, cost: 0, mayDegrade: true });
    });
    await settledWithin(CLOSE_MS, Promise.all(done));
  }

  return { take, close };
}
