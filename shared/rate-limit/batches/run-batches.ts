// Runs the transactions of all keys: at most one at a time per key, which all calls that wait on the key join.

import { admitFromBlocks } from '../counting/admit-from-blocks.ts';
import type { BlockKeeper } from '../counting/block-keeper.ts';
import type { Entry, Waiting } from '../counting/entries.ts';
import type { Timers } from '../counting/timers.ts';
import type { CallQueue } from './call-queue.ts';
import type { DecideBatch } from './decide-batch.ts';
import { decideFailed, type FailureDeps } from './failed-batch.ts';

export interface Batches {
  /** Starts a transaction for the waiting calls of the key, unless there are none or one is scheduled or running. */
  schedule(entry: Entry): void;
  /**
   * Starts a transaction that no call waits for, unless one is scheduled or running: it refills, gives back, or reads.
   */
  start(entry: Entry, mustRead: boolean): void;
}

export interface BatchesDeps extends FailureDeps {
  readonly timers: Timers;
  readonly keeper: BlockKeeper;
  readonly queue: CallQueue;
  readonly decideBatch: DecideBatch;
}

export function createBatches(deps: BatchesDeps): Batches {
  const { clock, timers, keeper, queue, decideBatch } = deps;

  /** `soon` runs after the requests that this iteration of the event loop has parsed, so they all share one commit. */
  function schedule(entry: Entry): void {
    if (entry.busy || entry.waiting.length === 0) return;
    entry.busy = true;
    timers.soon(() => void runBatch(entry, false));
  }

  function start(entry: Entry, mustRead: boolean): void {
    if (entry.busy) return;
    entry.busy = true;
    void runBatch(entry, mustRead);
  }

  async function runBatch(entry: Entry, mustRead: boolean): Promise<void> {
    if (keeper.isClosing) entry.held.surrender();
    let batch = queue.drain(entry).filter((waiting) => !admit(entry, waiting));
    try {
      batch = await decideBatch(entry, batch, mustRead, true);
      while (batch.length > 0) {
        // These calls fit once this instance has given back its blocks, so they are decided again without blocks.
        entry.held.surrender();
        batch = await decideBatch(entry, batch, false, false);
      }
      entry.upkeep.failures = 0;
    } catch (error) {
      // Requests queued during the failed transaction fail with it: another attempt would make them wait for a second
      // deadline.
      batch = batch.concat(queue.drain(entry));
      const failureOf = decideFailed(deps, error);
      for (const { request, resolve } of batch) resolve(failureOf(entry, request));
      keeper.failed(entry);
    }
    entry.busy = false;
    schedule(entry);
    keeper.proceed(entry);
  }

  /** Blocks may have arrived since the call was queued. */
  function admit(entry: Entry, { request, resolve }: Waiting): boolean {
    if (request.signal?.aborted) return false;
    const admitted = admitFromBlocks(entry, request, { nowMs: clock.now(), atMs: clock.monotonic() });
    if (admitted !== undefined) resolve(admitted);
    return admitted !== undefined;
  }

  return { schedule, start };
}
