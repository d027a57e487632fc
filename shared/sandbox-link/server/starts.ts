// Remembers the ids of the starts of the last minute, which the gateway side generates. A start that is repeated, on
// any link, is not executed twice.
import { RpcError } from '../../errors.ts';

export interface Starts {
  /**
   * Remembers an id. Throws RpcError `conflict` for an id that was used already, `unavailable` when too many are
   * remembered.
   */
  enter(startId: string): void;
}

const REMEMBERED_MS = 60_000;
const REMEMBERED_MAX = 100_000;

/** `now` returns monotonic milliseconds. */
export function createStarts(now: () => number = () => performance.now()): Starts {
  const entered = new Map<string, number>();

  return {
    enter(startId) {
      const nowMs = now();
      for (const [old, atMs] of entered) {
        if (nowMs - atMs < REMEMBERED_MS) break;
        entered.delete(old);
      }
      if (entered.has(startId)) {
        throw new RpcError('conflict', { message: 'This start was carried out already', retryable: false });
      }
      if (entered.size >= REMEMBERED_MAX) {
        throw new RpcError('unavailable', { message: 'Too many starts within a minute', retryAfterMs: 10_000 });
      }
      entered.set(startId, nowMs);
    },
  };
}
