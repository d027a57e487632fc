// Thin decorators around a real store: one counts operations, one can be cut off. They change no behaviour of what they wrap.
import type { Clock } from '../../../shared/clock.ts';
import { RpcError } from '../../../shared/errors.ts';
import type { Store } from '../../../shared/store/store.ts';

/** A clock that stands still until it is moved. */
export interface TestClock extends Clock {
  /** Time passes. */
  advance(ms: number): void;
  /** The wall clock is set to another time while none passes. */
  step(ms: number): void;
}

export function createTestClock(startMs = Date.UTC(2026, 0, 1, 12)): TestClock {
  let nowMs = startMs;
  let passedMs = 0;
  return {
    now: () => nowMs,
    monotonic: () => passedMs,
    advance(ms) {
      nowMs += ms;
      passedMs += ms;
    },
    step(ms) {
      nowMs += ms;
    },
  };
}

export interface Counted extends Store {
  /** Documents read, writes of commits that succeeded, of commits that failed, and locks taken, since the last `reset`. */
  readonly operations: { reads: number; commits: number; lost: number; locks: number };
  /** All of them; a lock counts as four: a read and a write of its own, and the door in front of it taken and left. */
  total(): number;
  reset(): void;
}

export function countOperations(store: Store): Counted {
  const operations = { reads: 0, commits: 0, lost: 0, locks: 0 };
  return {
    ...store,
    operations,
    total: () => operations.reads + operations.commits + operations.lost + 4 * operations.locks,
    reset: () => void Object.assign(operations, { reads: 0, commits: 0, lost: 0, locks: 0 }),
    get: (refs, options) => {
      operations.reads += refs.length;
      return store.get(refs, options);
    },
    async commit(writes, options) {
      try {
        const versions = await store.commit(writes, options);
        operations.commits += writes.length;
        return versions;
      } catch (error) {
        operations.lost += writes.length;
        throw error;
      }
    },
    lock: (refs, compute, options) => {
      operations.locks++;
      return store.lock(refs, compute, options);
    },
  };
}

/** `down` refuses at once; `deaf` does the work and loses the answer, like a connection cut after the request was sent. */
export interface Line extends Store {
  state: 'up' | 'down' | 'deaf';
}

export function cutOff(store: Store): Line {
  async function through<T>(work: () => Promise<T>): Promise<T> {
    if (line.state === 'down') throw new RpcError('unavailable');
    const answer = await work();
    if (line.state === 'deaf') throw new RpcError('unavailable');
    return answer;
  }
  const line: Line = {
    ...store,
    state: 'up',
    get: (refs, options) => through(() => store.get(refs, options)),
    commit: (writes, options) => through(() => store.commit(writes, options)),
    lock: (refs, compute, options) => through(() => store.lock(refs, compute, options)),
  };
  return line;
}
