// Limits how many calls run at a time, per key and in total: one key has at most half of the slots and of the queue, so
// that it cannot block the others. A short command waits some seconds for a slot; a long-running process is refused at
// once.
import { RpcError } from '../errors.ts';

export interface SlotLimits {
  readonly perKey: number;
  readonly total: number;
  /** Most calls in the queue, at most half of them of one key, and how long they wait; 0: no queue. */
  readonly waiting: number;
  readonly waitMs: number;
  /** Message of the error for a call that gets no slot. */
  readonly message?: string;
}

/** For short commands: 16 at a time per key, 32 in total. */
export const SHORT_SLOTS: SlotLimits = { perKey: 16, total: 32, waiting: 64, waitMs: 10_000 };
/** For terminals, MCP servers and Codex processes. They run long, so no slot would become free while a call waits. */
export const LONG_SLOTS: SlotLimits = { perKey: 16, total: 64, waiting: 0, waitMs: 0 };

const RETRY_MS = 1_000;

interface Waiting {
  readonly keyId: string;
  start(): void;
}

export interface Slots {
  /**
   * Resolves with the function that releases the slot. Throws `unavailable` when no slot becomes free in time, the
   * signal's reason when aborted.
   */
  acquire(keyId: string, signal?: AbortSignal): Promise<() => void>;
}

export function createSlots(limits: SlotLimits): Slots {
  const running = new Map<string, number>();
  let queue: Waiting[] = [];
  let total = 0;

  return {
    async acquire(keyId, signal) {
      signal?.throwIfAborted();
      if (isFree(keyId)) return take(keyId);
      const own = queue.filter((waiting) => waiting.keyId === keyId).length;
      if (queue.length >= limits.waiting || own >= Math.ceil(limits.waiting / 2)) throw full(limits);
      return wait(keyId, signal);
    },
  };

  function wait(keyId: string, signal: AbortSignal | undefined): Promise<() => void> {
    return new Promise((resolve, reject) => {
      const leave = (error: unknown): void => {
        const index = queue.indexOf(waiting);
        if (index !== -1) queue.splice(index, 1);
        clearTimeout(timer);
        signal?.removeEventListener('abort', aborted);
        if (error !== undefined) reject(error);
      };
      const aborted = (): void => leave(signal?.reason);
      const timer = setTimeout(() => leave(full(limits)), limits.waitMs);
      const waiting: Waiting = {
        keyId,
        start() {
          leave(undefined);
          resolve(take(keyId));
        },
      };
      signal?.addEventListener('abort', aborted, { once: true });
      queue.push(waiting);
    });
  }

  function isFree(keyId: string): boolean {
    return total < limits.total && runningOf(keyId) < limits.perKey;
  }

  function runningOf(keyId: string): number {
    return running.get(keyId) ?? 0;
  }

  /**
   * The next call to run: of the keys with the fewest running calls, the first in the queue. Keys at their limit are
   * skipped.
   */
  function next(): Waiting | undefined {
    const free = queue.filter(({ keyId }) => isFree(keyId));
    const fewest = Math.min(...free.map(({ keyId }) => runningOf(keyId)));
    return free.find(({ keyId }) => runningOf(keyId) === fewest);
  }

  /** Moves the calls of a key to the end of the queue, so that the other keys take their turn first. */
  function moveToEnd(keyId: string): void {
    const others = queue.filter((waiting) => waiting.keyId !== keyId);
    queue = [...others, ...queue.filter((waiting) => waiting.keyId === keyId)];
  }

  function take(keyId: string): () => void {
    total++;
    running.set(keyId, runningOf(keyId) + 1);
    let isGiven = false;
    return () => {
      if (isGiven) return;
      isGiven = true;
      total--;
      const left = (running.get(keyId) ?? 1) - 1;
      if (left === 0) running.delete(keyId);
      else running.set(keyId, left);
      moveToEnd(keyId);
      next()?.start();
    };
  }
}

function full({ message = 'Too many sandboxes are running' }: SlotLimits): RpcError {
  return new RpcError('unavailable', { message, retryAfterMs: RETRY_MS });
}
