// A query of a Store returns the documents that match, in order, once each, page by page, and none that lacks the field
// or has expired.
import { describe, expect, it } from 'vitest';
import type { Query, Store } from '../../../shared/store/store.ts';
import { freshCollection, type StoreFixture, typed } from '../../support/fixtures/database/store.ts';

interface Row {
  readonly id: string;
  readonly owner: string;
  readonly at: string | number;
}

/** Run by `storeCases`. */
export function storeQueryCases({ store, clock }: StoreFixture): void {
  describe('query', () => {
    const rows: Row[] = [
      { id: 'a', owner: 'x', at: '2026-01-01' },
      { id: 'd', owner: 'x', at: '2026-01-02' },
      { id: 'B', owner: 'x', at: '2026-01-02' },
      { id: 'c', owner: 'y', at: '2026-01-02' },
      { id: '_', owner: 'x', at: '2026-01-03' },
    ];

    it('a query orders by the field, ties by id, in both directions', async () => {
      const collection = await filled(store(), rows);
      expect(await ids(store(), { collection, orderBy: 'at', limit: 10 })).toEqual(['a', 'B', 'c', 'd', '_']);
      const descending: Query = { collection, orderBy: 'at', direction: 'desc', limit: 10 };
      expect(await ids(store(), descending)).toEqual(['_', 'd', 'c', 'B', 'a']);
    });

    it('a query finds by equality and honours the limit', async () => {
      const collection = await filled(store(), rows);
      const query: Query = { collection, where: { owner: 'x' }, orderBy: 'at', direction: 'desc', limit: 3 };
      expect(await ids(store(), query)).toEqual(['_', 'd', 'B']);
      expect(await ids(store(), { ...query, where: { owner: 'z' } })).toEqual([]);
      expect(await ids(store(), { ...query, where: { owner: 'x', at: '2026-01-02' } })).toEqual(['d', 'B']);
      expect(await ids(store(), { ...query, where: { owner: "x' OR '1'='1" } })).toEqual([]);
    });

    it('a query finds by an element of an array, in order and page by page', async () => {
      const collection = freshCollection();
      const tagged = [
        { id: 'a', owner: 'x', at: 1, tags: ['red', 'blue'] },
        { id: 'b', owner: 'x', at: 2, tags: ['blue'] },
        { id: 'c', owner: 'y', at: 3, tags: ['red'] },
        { id: 'd', owner: 'x', at: 4, tags: ['red'] },
        { id: 'e', owner: 'x', at: 5, tags: 'red' },
        { id: 'f', owner: 'x', at: 6 },
        { id: 'g', owner: 'x', at: 6, tags: ['re', "' OR 1=1", 'red'] },
      ];
      await store().commit(tagged.map(({ id, ...data }) => ({ ref: { collection, id }, data })));
      const contains = { field: 'tags', value: 'red' };
      const query: Query = { collection, where: { owner: 'x' }, contains, orderBy: 'at', direction: 'desc', limit: 2 };
      expect(await ids(store(), query)).toEqual(['g', 'd']);
      expect(await ids(store(), { ...query, after: { value: 4, id: 'd' } })).toEqual(['a']);
      expect(await ids(store(), { ...query, direction: 'asc' })).toEqual(['a', 'd']);
      expect(await ids(store(), { ...query, contains: { field: 'tags', value: "' OR 1=1" } })).toEqual(['g']);
      expect(await ids(store(), { ...query, contains: { field: 'none', value: 'red' } })).toEqual([]);
    });

    it('a query orders numbers as numbers and strings by code point', async () => {
      const numbers = await filled(store(), toRows([10, 9, -1.5, 2 ** 40, 0]));
      expect(await values(store(), numbers)).toEqual([-1.5, 0, 9, 10, 2 ** 40]);
      const texts = await filled(store(), toRows(['b', '\u{1F600}', '\uFF5E', 'a', 'B', 'é']));
      expect(await values(store(), texts)).toEqual(['B', 'a', 'b', 'é', '\uFF5E', '\u{1F600}']);
    });

    it.each(['asc', 'desc'] as const)('a query pages %s without gap or duplicate, across ties', async (direction) => {
      const many = Array.from({ length: 23 }, (_, index) => ({
        id: `r${(index * 7) % 23}`,
        owner: index % 3 === 0 ? 'y' : 'x',
        at: Math.floor(index / 5),
      }));
      const collection = await filled(store(), many);
      const query: Query = { collection, where: { owner: 'x' }, orderBy: 'at', direction, limit: 4 };
      const whole = await ids(store(), { ...query, limit: 1000 });
      const paged: string[] = [];
      for (let after: Query['after']; ; ) {
        const found = await store().query(after === undefined ? query : { ...query, after });
        const page = found.map((snapshot) => typed<Row>(snapshot));
        paged.push(...page.map((snapshot) => snapshot.ref.id));
        const last = page.at(-1);
        if (last?.data === undefined) break;
        after = { value: last.data.at, id: last.ref.id };
      }
      expect(paged).toEqual(whole);
      expect(new Set(paged)).toEqual(new Set(many.filter((row) => row.owner === 'x').map((row) => row.id)));
    });

    it('a query leaves out documents without the field', async () => {
      const collection = await filled(store(), rows.slice(0, 1));
      await store().commit([{ ref: { collection, id: 'without' }, data: { owner: 'x' } }]);
      expect(await ids(store(), { collection, orderBy: 'at', limit: 10 })).toEqual(['a']);
    });

    it('a query leaves out expired documents and still fills the page', async () => {
      const collection = freshCollection();
      await store().commit(
        Array.from({ length: 30 }, (_, index) => ({
          ref: { collection, id: `r${index}` },
          data: { at: index },
          ...(index % 10 === 9 ? {} : { expireAtMs: clock.ms + 500 }),
        })),
      );
      expect(await ids(store(), { collection, orderBy: 'at', limit: 2 })).toEqual(['r0', 'r1']);
      clock.ms += 500;
      expect(await ids(store(), { collection, orderBy: 'at', limit: 2 })).toEqual(['r9', 'r19']);
      expect(await ids(store(), { collection, orderBy: 'at', limit: 10 })).toEqual(['r9', 'r19', 'r29']);
    });

    it('a document that a query found can be written under the version with which it was found', async () => {
      const collection = await filled(store(), rows.slice(0, 1));
      const [found] = await store().query({ collection, orderBy: 'at', limit: 1 });
      expect(found).toEqual((await store().get([{ collection, id: 'a' }]))[0]);
    });

    it.each([0, -1, 1.5, 1001])('a query refuses the limit %d', async (limit) => {
      await expect(store().query({ collection: 'cases', orderBy: 'n', limit })).rejects.toBeInstanceOf(TypeError);
    });

    it.each(["a'", 'a.b', '', 'a b', '__name__'])('a query refuses the field %j', async (field) => {
      const query = { collection: 'cases', limit: 1 };
      await expect(store().query({ ...query, orderBy: field })).rejects.toBeInstanceOf(TypeError);
      await expect(store().query({ ...query, orderBy: 'n', where: { [field]: 'x' } })).rejects.toBeInstanceOf(
        TypeError,
      );
      const contains = { field, value: 'x' };
      await expect(store().query({ ...query, orderBy: 'n', contains })).rejects.toBeInstanceOf(TypeError);
    });
  });
}

async function filled(store: Store, rows: readonly Row[]): Promise<string> {
  const collection = freshCollection();
  await store.commit(
    rows.map(({ id, owner, at }) => ({ ref: { collection, id }, data: { owner, at, long: { text: 'é'.repeat(50) } } })),
  );
  return collection;
}

function toRows(keys: readonly (string | number)[]): Row[] {
  return keys.map((at, index) => ({ id: `r${index}`, owner: 'x', at }));
}

async function ids(store: Store, query: Query): Promise<string[]> {
  return (await store.query(query)).map((snapshot) => snapshot.ref.id);
}

async function values(store: Store, collection: string): Promise<unknown[]> {
  return (await store.query({ collection, orderBy: 'at', limit: 10 })).map((snapshot) => typed<Row>(snapshot).data?.at);
}
