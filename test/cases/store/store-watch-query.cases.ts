// A watch of a query of a Store delivers the whole result at first and after every change, never an older state after a
// newer one.
import { describe, expect, it } from 'vitest';
import type { Query, Store } from '../../../shared/store/store.ts';
import { freshCollection, put, type StoreFixture, type Typed, typed } from '../../support/fixtures/database/store.ts';

interface Row {
  readonly at: number;
  readonly kind: string;
}

/** Run by `storeCases`. */
export function storeWatchQueryCases({ store, clock }: StoreFixture): void {
  describe('watchQuery', () => {
    const newest = (collection: string, limit = 3): Query => ({
      collection,
      orderBy: 'at',
      direction: 'desc',
      limit,
    });
    const add = (collection: string, id: string, row: Row, expireAtMs?: number): Promise<string> =>
      put(store(), { collection, id }, row, expireAtMs);

    it('watchQuery delivers the present result first, empty or not', async () => {
      const collection = freshCollection();
      const empty = watching(store(), newest(collection));
      await empty.until((ids) => ids === '');
      empty.stop();
      const version = await add(collection, 'a', { at: 1, kind: 'x' });
      const filled = watching(store(), newest(collection));
      await filled.until((ids) => ids === 'a');
      filled.stop();
      expect(filled.seen).toEqual([[{ ref: { collection, id: 'a' }, data: { at: 1, kind: 'x' }, version }]]);
    });

    it('watchQuery delivers documents that are added, changed and removed, in the order of the query', async () => {
      const collection = freshCollection();
      const watched = watching(store(), newest(collection));
      await watched.until((ids) => ids === '');
      await add(collection, 'a', { at: 1, kind: 'x' });
      await watched.until((ids) => ids === 'a');
      await add(collection, 'c', { at: 3, kind: 'x' });
      await watched.until((ids) => ids === 'c a');
      await add(collection, 'b', { at: 2, kind: 'x' });
      await watched.until((ids) => ids === 'c b a');
      await add(collection, 'a', { at: 4, kind: 'x' });
      await watched.until((ids) => ids === 'a c b');
      await add(collection, 'd', { at: 5, kind: 'x' });
      await watched.until((ids) => ids === 'd a c');
      await store().commit([{ ref: { collection, id: 'a' }, delete: true }]);
      await watched.until((ids) => ids === 'd c b');
      watched.stop();
    });

    it('watchQuery delivers only what its filter and position select', async () => {
      const collection = freshCollection();
      const after = { value: 2, id: 'b' };
      const watched = watching(store(), { collection, orderBy: 'at', where: { kind: 'x' }, after, limit: 5 });
      await watched.until((ids) => ids === '');
      await add(collection, 'a', { at: 1, kind: 'x' });
      await add(collection, 'y', { at: 7, kind: 'y' });
      await add(collection, 'c', { at: 2, kind: 'x' });
      await add(collection, 'd', { at: 3, kind: 'x' });
      await watched.until((ids) => ids === 'c d');
      watched.stop();
      expect(watched.seen.flat().every((snapshot) => snapshot.data?.kind === 'x')).toBe(true);
    });

    it('watchQuery does not show what has expired', async () => {
      const collection = freshCollection();
      await add(collection, 'old', { at: 9, kind: 'x' }, clock.ms - 1);
      await add(collection, 'new', { at: 1, kind: 'x' }, clock.ms + 60_000);
      const watched = watching(store(), newest(collection));
      await watched.until((ids) => ids === 'new');
      watched.stop();
    });

    it('watchQuery delivers nothing once stopped, and may be stopped twice', async () => {
      const collection = freshCollection();
      const stopped = watching(store(), newest(collection));
      await stopped.until((ids) => ids === '');
      stopped.stop();
      stopped.stop();
      const other = watching(store(), newest(collection));
      await other.until((ids) => ids === '');
      await add(collection, 'a', { at: 1, kind: 'x' });
      await other.until((ids) => ids === 'a');
      other.stop();
      expect(stopped.seen).toHaveLength(1);
    });
  });
}

/** Collects results; `until` resolves when the ids of one received now or later, joined by spaces, match. */
function watching(store: Store, query: Query) {
  const seen: Typed<Row>[][] = [];
  const waiting = new Set<() => void>();
  const stop = store.watchQuery(
    query,
    (snapshots) => {
      seen.push(snapshots.map((snapshot) => typed<Row>(snapshot)));
      for (const check of [...waiting]) check();
    },
    (error) => {
      throw error;
    },
  );
  const until = (matches: (ids: string) => boolean): Promise<void> =>
    new Promise((resolve) => {
      const check = (): void => {
        const last = seen.at(-1);
        if (last === undefined || !matches(last.map(({ ref }) => ref.id).join(' '))) return;
        waiting.delete(check);
        resolve();
      };
      waiting.add(check);
      check();
    });
  return { seen, stop, until };
}
