// The sweeper publishes recorded events that are not marked as published. It can run on several instances at a time,
// because every event is claimed before it is published. An event that is published twice (a crash before the mark) is
// recognised by subscribers by its id.

import { deadline } from '../async.ts';
import { errorFields } from '../log.ts';
import { type Pipeline, publishClaimed } from './accept.ts';
import { claim, dueEntries } from './outbox.ts';

const BATCH_MAX = 100;
const BATCHES_MAX = 10;
/** Most ordering keys that are published at a time. */
const PARALLEL_MAX = 8;
/** After this many consecutive failures the bus counts as down, and the sweep ends. */
const FAILURES_MAX = 3;
/** A sweep starts no further event after this time; lower than the 60 s deadline of the Scheduler job. */
const SWEEP_MS_MAX = 40_000;

export interface SweepOptions {
  readonly signal?: AbortSignal;
  /** Milliseconds before the first retry of an event; doubles with every attempt. Default: 30 s. */
  readonly claimMs?: number;
}

/**
 * Number of events that were published, that failed (and stay in the outbox), and that were removed because their body
 * has expired.
 */
export interface SweepResult {
  readonly published: number;
  readonly failed: number;
  readonly lost: number;
}

/**
 * One sweep: at most 1000 events, due ones first, oldest first within an ordering key, which stops at its first failure
 * so that order is kept. Throws RpcError `unavailable` when the store is down.
 */
export async function sweep(services: Pipeline, options: SweepOptions = {}): Promise<SweepResult> {
  const signal = deadline(SWEEP_MS_MAX, options.signal);
  const count = { published: 0, failed: 0, lost: 0 };
  let failuresInARow = 0;
  const mayGoOn = (): boolean => failuresInARow < FAILURES_MAX && !signal.aborted;

  const sweepKey = async (ids: readonly string[]): Promise<void> => {
    for (const id of ids) {
      if (!mayGoOn()) return;
      const claimed = await claim(services.store, id, services.clock.now(), options);
      if (claimed === undefined) continue;
      if (claimed === 'lost') {
        count.lost++;
        services.log.error('event given up: still unpublished after its lifetime', { event_id: id });
      } else if ((await publishClaimed(services, claimed)) === undefined) {
        count.failed++;
        failuresInARow++;
        return;
      } else {
        count.published++;
        failuresInARow = 0;
      }
    }
  };

  for (let batch = 0; batch < BATCHES_MAX && mayGoOn(); batch++) {
    const due = await dueEntries(services.store, services.clock.now(), BATCH_MAX);
    const keys = [...Map.groupBy(due, ({ entry }) => entry.ordering_key).values()];
    const next = keys.values();
    const worker = async (): Promise<void> => {
      for (const entries of next) {
        entries.sort((a, b) => a.entry.created_at_ms - b.entry.created_at_ms);
        await sweepKey(entries.map(({ id }) => id));
      }
    };
    const settled = await Promise.allSettled(Array.from({ length: Math.min(PARALLEL_MAX, keys.length) }, worker));
    for (const outcome of settled) if (outcome.status === 'rejected') throw outcome.reason;
    if (due.length < BATCH_MAX) break;
  }
  return count;
}

/**
 * Sweeps every `intervalMs` in this process (the local server; in the cloud Cloud Scheduler calls the endpoint). Never
 * two sweeps at a time; does not keep the process alive. The returned function stops it and waits for a running sweep.
 */
export function startSweeper(services: Pipeline, intervalMs: number, options: SweepOptions = {}): () => Promise<void> {
  const stopping = new AbortController();
  const signal = options.signal === undefined ? stopping.signal : AbortSignal.any([stopping.signal, options.signal]);
  let running: Promise<void> | undefined;
  const run = async (): Promise<void> => {
    try {
      const result = await sweep(services, { ...options, signal });
      if (result.published + result.failed + result.lost > 0) services.log.info('swept the outbox', { ...result });
    } catch (error) {
      services.log.warn('sweep failed', errorFields(error));
    } finally {
      running = undefined;
    }
  };
  const timer = setInterval(() => {
    running ??= run();
  }, intervalMs);
  timer.unref();
  return async () => {
    clearInterval(timer);
    stopping.abort();
    await running;
  };
}
