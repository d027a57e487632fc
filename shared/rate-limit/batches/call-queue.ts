// The calls that wait for the next transaction of their key, bounded per key and in all.
import type { Entry, Waiting } from '../counting/entries.ts';

export interface CallQueue {
  /** Whether another call of the key would exceed a bound. */
  isFull(entry: Entry): boolean;
  add(entry: Entry, waiting: Waiting): void;
  /** Removes the waiting calls of the key from the queue. */
  drain(entry: Entry): Waiting[];
  /** The same for calls that join `batch`, whose transaction is running; none once the batch is as long as a queue. */
  drainInto(batch: readonly Waiting[], entry: Entry): readonly Waiting[];
}

export interface QueueBounds {
  readonly waitingPerKeyMax: number;
  readonly waitingMax: number;
}

export function createCallQueue({ waitingPerKeyMax, waitingMax }: QueueBounds): CallQueue {
  let waitingCount = 0;

  function drain(entry: Entry): Waiting[] {
    const waiting = entry.waiting;
    entry.waiting = [];
    waitingCount -= waiting.length;
    return waiting;
  }

  return {
    drain,
    isFull: (entry) => waitingCount >= waitingMax || entry.waiting.length >= waitingPerKeyMax,
    add(entry, waiting) {
      entry.waiting.push(waiting);
      waitingCount++;
    },
    drainInto: (batch, entry) => (batch.length < waitingPerKeyMax ? drain(entry) : []),
  };
}
