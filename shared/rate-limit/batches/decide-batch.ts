// Decides the calls of a batch: has them counted in one transaction and answers each of them.
import type { Clock } from '../../clock.ts';
import type { Ride } from '../../store/ride.ts';
import type { BlockKeeper } from '../counting/block-keeper.ts';
import type { Entry, Waiting } from '../counting/entries.ts';
import type { Outage } from '../counting/outage.ts';
import { areBlocksAllowed } from '../windows/block-policy.ts';
import type { CallQueue } from './call-queue.ts';
import type { CountBatch } from './count-batch.ts';

/** Writes of a call that has waited longer, behind other calls of its key, are not carried: they contain its time. */
const RIDE_QUEUED_MS_MAX = 1_000;

export interface DecideBatchDeps {
  readonly clock: Clock;
  readonly outage: Outage;
  readonly keeper: BlockKeeper;
  readonly queue: CallQueue;
  readonly countBatch: CountBatch;
}

/**
 * Counts and answers the calls of `batch`, to which calls are added; returns those that blocks of this instance keep
 * from being admitted. Throws what the store throws. With `mustRead` it does not rely on the cached document.
 */
export type DecideBatch = (
  entry: Entry,
  batch: Waiting[],
  mustRead: boolean,
  mayTakeBlocks: boolean,
) => Promise<Waiting[]>;

export function createDecideBatch({ clock, outage, keeper, queue, countBatch }: DecideBatchDeps): DecideBatch {
  /** During an outage nothing is carried: a probe that fails decides nothing else. */
  function rideOf([waiting, ...others]: readonly Waiting[]): Ride | undefined {
    if (waiting === undefined || others.length > 0 || outage.open) return undefined;
    return clock.monotonic() - waiting.queuedAtMs < RIDE_QUEUED_MS_MAX ? waiting.request.ride : undefined;
  }

  return async (entry, batch, mustRead, mayTakeBlocks) => {
    const planOf = () => keeper.planOf(entry, mayTakeBlocks);
    if (batch.length === 0 && !mustRead && planOf() === undefined) return [];
    const arrived = () => queue.drainInto(batch, entry);
    const isPatient = batch.every(({ request }) => areBlocksAllowed(request.limits));
    const decisions = await countBatch(entry, batch, { planOf, arrived, mustRead, isPatient, ride: rideOf(batch) });
    return batch.filter(({ request, resolve, reject }, index) => {
      const decision = decisions[index];
      if (decision === 'own') return true;
      if (decision === undefined) reject(request.signal?.reason);
      else resolve(decision);
      return false;
    });
  };
}
