// A watch of a document of a Store delivers the present state first, then every change in order, until it is stopped.
// No case commits while a watch is still being set up: the emulator, unlike Firestore, may then lose the change or fail
// the commit (1 of 300).
import { describe, expect, it } from 'vitest';
import type { Ref, Store } from '../../../shared/store/store.ts';
import { freshRef, put, type StoreFixture, type Typed, typed } from '../../support/fixtures/database/store.ts';

interface Counted {
  readonly n: number;
}

/** Run by `storeCases`. */
export function storeWatchCases({ store }: StoreFixture): void {
  describe('watch', () => {
    it('watch delivers the present state first, absent or not', async () => {
      const ref = freshRef();
      const absent = watching(store(), ref);
      await absent.until((snapshot) => snapshot.version === null);
      absent.stop();
      const version = await put(store(), ref, { n: 1 });
      const present = watching(store(), ref);
      await present.until(() => true);
      present.stop();
      expect(absent.seen).toEqual([{ ref, data: undefined, version: null }]);
      expect(present.seen).toEqual([{ ref, data: { n: 1 }, version }]);
    });

    it('watch delivers every later state, deletion included, in order', async () => {
      const ref = freshRef();
      const watched = watching(store(), ref);
      await watched.until((snapshot) => snapshot.version === null);
      for (const n of [1, 2, 3]) {
        await put(store(), ref, { n });
        await watched.until((snapshot) => snapshot.data?.n === n);
      }
      await store().commit([{ ref, delete: true }]);
      await watched.until((snapshot) => snapshot.version === null && watched.seen.length > 4);
      watched.stop();
      expect(watched.seen.map((snapshot) => snapshot.data?.n)).toEqual([undefined, 1, 2, 3, undefined]);
    });

    it('watch never delivers an older state after a newer one, and ends with the last', async () => {
      const ref = freshRef();
      const watched = watching(store(), ref);
      await watched.until(() => true);
      for (let n = 1; n <= 30; n++) await put(store(), ref, { n });
      await watched.until((snapshot) => snapshot.data?.n === 30);
      watched.stop();
      const delivered = watched.seen.flatMap((snapshot) => snapshot.data?.n ?? []);
      expect(delivered).toEqual([...new Set(delivered)].sort((a, b) => a - b));
    });

    it('watch delivers to each of several watchers, with versions that commits may name', async () => {
      const ref = freshRef();
      const watchers = [watching(store(), ref), watching(store(), ref)];
      for (const watched of watchers) await watched.until(() => true);
      const version = await put(store(), ref, { n: 1 });
      for (const watched of watchers) await watched.until((snapshot) => snapshot.version === version);
      watchers[0]?.stop();
      await store().commit([{ ref, data: { n: 2 }, if: { version } }]);
      await watchers[1]?.until((snapshot) => snapshot.data?.n === 2);
      watchers[1]?.stop();
      expect(watchers[0]?.seen.some((snapshot) => snapshot.data?.n === 2)).toBe(false);
    });

    it('watch delivers nothing once stopped, and may be stopped twice', async () => {
      const ref = freshRef();
      const stopped = watching(store(), ref);
      await stopped.until(() => true);
      stopped.stop();
      stopped.stop();
      const other = watching(store(), ref);
      await other.until(() => true);
      await put(store(), ref, { n: 1 });
      await other.until((snapshot) => snapshot.data?.n === 1);
      other.stop();
      expect(stopped.seen).toHaveLength(1);
    });

    it('watch delivers a change made under lock', async () => {
      const ref = freshRef();
      const watched = watching(store(), ref);
      await watched.until(() => true);
      await store().lock([ref], () => ({ writes: [{ ref, data: { n: 5 } }], result: 0 }));
      await watched.until((snapshot) => snapshot.data?.n === 5);
      watched.stop();
    });
  });
}

/** Collects what a watcher receives; `until` resolves when a snapshot received now or later matches. */
function watching(store: Store, ref: Ref) {
  const seen: Typed<Counted>[] = [];
  const waiting = new Set<() => void>();
  const stop = store.watch(
    ref,
    (snapshot) => {
      seen.push(typed(snapshot));
      for (const check of [...waiting]) check();
    },
    (error) => {
      throw error;
    },
  );
  const until = (matches: (snapshot: Typed<Counted>) => boolean): Promise<void> =>
    new Promise((resolve) => {
      const check = (): void => {
        const last = seen.at(-1);
        if (last === undefined || !matches(last)) return;
        waiting.delete(check);
        resolve();
      };
      waiting.add(check);
      check();
    });
  return { seen, stop, until };
}
