// Runs work one at a time per key, in order of arrival, so that the calls of one process do not compete for a remote
// lock.

export interface Queue {
  /** Runs `work` when all earlier work of the same key has resolved or rejected. */
  run<R>(key: string, work: () => Promise<R>): Promise<R>;
}

/** Stores a key only while work for it runs or waits, so it is bounded by the calls in flight. */
export function createQueue(): Queue {
  const tails = new Map<string, Promise<unknown>>();
  return {
    async run(key, work) {
      const before = tails.get(key);
      const mine = before === undefined ? work() : before.then(work, work);
      // The tail must not reject, because only the caller of `run` handles rejections.
      const tail = mine.then(
        () => undefined,
        () => undefined,
      );
      tails.set(key, tail);
      try {
        return await mine;
      } finally {
        if (tails.get(key) === tail) tails.delete(key);
      }
    },
  };
}
