// One at a time per key, in order of arrival: work within this process waits here instead of in a remote lock.

export interface Queue {
  /** Runs `work` when all earlier work of the same key has ended, however it ended. */
  run<R>(key: string, work: () => Promise<R>): Promise<R>;
}

/** Holds a key only while work for it runs or waits; bounded by the calls in flight. */
export function createQueue(): Queue {
  const tails = new Map<string, Promise<unknown>>();
  return {
    async run(key, work) {
      const before = tails.get(key);
      const mine = before === undefined ? work() : before.then(work, work);
      // The tail must not reject: only the caller of `run` handles that.
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
