// Every Store adapter commits atomically under preconditions, expires documents and keeps deadlines. Queries, watching
// and the fidelity of values have suites of their own beside this one; `storeCases` runs them all.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { WallClock } from '../../../shared/clock.ts';
import { Conflict, type Store } from '../../../shared/store/store.ts';
import { transact } from '../../../shared/store/transact.ts';
import { freshCollection, freshRef, put, read, type StoreFixture } from '../../support/fixtures/database/store.ts';
import { storeDocumentCases } from './store-documents.cases.ts';
import { storeQueryCases } from './store-query.cases.ts';
import { storeTransactCases } from './store-transact.cases.ts';
import { storeValueCases } from './store-value.cases.ts';
import { storeWatchCases } from './store-watch.cases.ts';
import { storeWatchQueryCases } from './store-watch-query.cases.ts';

/** Runs every case against the store that `open` makes; it is closed afterwards. */
export function storeCases(name: string, open: (clock: WallClock) => Store | Promise<Store>): void {
  describe(name, () => {
    const clock = { ms: Date.now(), now: () => clock.ms };
    let opened: Store | undefined;
    beforeAll(async () => {
      opened = await open(clock);
    });
    afterAll(async () => opened?.close());
    const store = (): Store => {
      if (opened === undefined) throw new Error('the store is not open');
      return opened;
    };
    commitCases(store);
    storeTransactCases({ store, clock });
    expiryCases({ store, clock });
    callCases(store);
    storeDocumentCases({ store, clock });
    storeQueryCases({ store, clock });
    storeValueCases({ store, clock });
    storeWatchCases({ store, clock });
    storeWatchQueryCases({ store, clock });
  });
}

function commitCases(store: () => Store): void {
  it('get returns no data and no version for an absent document', async () => {
    const ref = freshRef();
    expect(await read(store(), ref)).toEqual({ ref, data: undefined, version: null });
  });

  it('get returns documents in the order requested, absent ones among them', async () => {
    const [a, b, c] = [freshRef(), freshRef(), freshRef()];
    await store().commit([
      { ref: a, data: { at: 'a' } },
      { ref: c, data: { at: 'c' } },
    ]);
    const found = await store().get([c, b, a, c]);
    expect(found.map((snapshot) => snapshot.data)).toEqual([{ at: 'c' }, undefined, { at: 'a' }, { at: 'c' }]);
    expect(await store().get([])).toEqual([]);
  });

  it('a commit returns the very versions that are read later', async () => {
    const [a, b, gone] = [freshRef(), freshRef(), freshRef()];
    await put(store(), gone, { here: true });
    const versions = await store().commit([
      { ref: a, data: { n: 1 }, if: 'absent' },
      { ref: gone, delete: true },
      { ref: b, data: { n: 2 } },
    ]);
    const found = await store().get([a, gone, b]);
    expect(versions).toEqual(found.map((snapshot) => snapshot.version));
    expect(versions[1]).toBeNull();
    expect(await store().commit([])).toEqual([]);
  });

  it('a commit replaces a whole document: no field of the previous state is kept', async () => {
    const ref = freshRef();
    const version = await put(store(), ref, { old: 1, nested: { a: 1 } }, Date.now() + 3_600_000);
    await store().commit([{ ref, data: { nested: { b: 2 } }, if: { version } }]);
    expect((await read(store(), ref)).data).toEqual({ nested: { b: 2 } });
    await put(store(), ref, {});
    expect((await read(store(), ref)).data).toEqual({});
  });

  it('a commit creates a document under `absent` once, and the second one fails with Conflict', async () => {
    const ref = freshRef();
    await store().commit([{ ref, data: { by: 'first' }, if: 'absent' }]);
    await expect(store().commit([{ ref, data: { by: 'second' }, if: 'absent' }])).rejects.toBeInstanceOf(Conflict);
    expect((await read(store(), ref)).data).toEqual({ by: 'first' });
  });

  it('exactly one of two commits on the same version succeeds', async () => {
    const ref = freshRef();
    const version = await put(store(), ref, { n: 0 });
    const outcomes = await Promise.allSettled(
      [1, 2].map((n) => store().commit([{ ref, data: { n }, if: { version } }])),
    );
    expect(outcomes.map((outcome) => outcome.status).sort()).toEqual(['fulfilled', 'rejected']);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') expect(outcome.reason).toBeInstanceOf(Conflict);
    }
  });

  it('a version of a document that no longer exists is refused as a precondition', async () => {
    const ref = freshRef();
    const version = await put(store(), ref, { n: 1 });
    await store().commit([{ ref, delete: true }]);
    await expect(store().commit([{ ref, data: { n: 2 }, if: { version } }])).rejects.toBeInstanceOf(Conflict);
    expect((await read(store(), ref)).version).toBeNull();
  });

  it('a commit writes nothing at all when one precondition of several does not hold', async () => {
    const [a, b, c] = [freshRef(), freshRef(), freshRef()];
    const stale = await put(store(), b, { n: 1 });
    await put(store(), b, { n: 2 });
    await put(store(), c, { n: 3 });
    const commit = store().commit([
      { ref: a, data: { n: 10 }, if: 'absent' },
      { ref: c, delete: true },
      { ref: b, data: { n: 20 }, if: { version: stale } },
    ]);
    await expect(commit).rejects.toBeInstanceOf(Conflict);
    expect((await store().get([a, b, c])).map((snapshot) => snapshot.data)).toEqual([undefined, { n: 2 }, { n: 3 }]);
  });

  it('a document is deleted only while it has the version of the precondition', async () => {
    const ref = freshRef();
    const stale = await put(store(), ref, { n: 1 });
    const version = await put(store(), ref, { n: 2 });
    await expect(store().commit([{ ref, delete: true, if: { version: stale } }])).rejects.toBeInstanceOf(Conflict);
    await expect(store().commit([{ ref, delete: true, if: 'absent' }])).rejects.toBeInstanceOf(Conflict);
    expect(await store().commit([{ ref, delete: true, if: { version } }])).toEqual([null]);
    await expect(store().commit([{ ref, delete: true, if: { version } }])).rejects.toBeInstanceOf(Conflict);
    expect(await store().commit([{ ref, delete: true, if: 'absent' }])).toEqual([null]);
    expect(await store().commit([{ ref, delete: true }])).toEqual([null]);
  });

  it('a version never stands for two states, not even after delete and re-create with the same data', async () => {
    const ref = freshRef();
    const versions: string[] = [];
    for (let round = 0; round < 5; round++) {
      versions.push(
        await put(store(), ref, { n: 1 }),
        await put(store(), ref, { n: 2 }),
        await put(store(), ref, { n: 1 }),
      );
      await store().commit([{ ref, delete: true }]);
    }
    expect(new Set(versions).size).toBe(versions.length);
    await put(store(), ref, { n: 1 });
    for (const version of versions) {
      await expect(store().commit([{ ref, delete: true, if: { version } }])).rejects.toBeInstanceOf(Conflict);
    }
  });

  it('a commit that writes one document twice is refused', async () => {
    const ref = freshRef();
    const commit = store().commit([
      { ref, data: { n: 1 } },
      { ref, data: { n: 2 } },
    ]);
    await expect(commit).rejects.toBeInstanceOf(TypeError);
    expect((await read(store(), ref)).version).toBeNull();
  });
}

function expiryCases({ store, clock }: StoreFixture): void {
  it('a document is readable until its expiry and not from then on', async () => {
    const ref = freshRef();
    const version = await put(store(), ref, { n: 1 }, clock.ms + 1000);
    clock.ms += 999;
    expect((await read(store(), ref)).data).toEqual({ n: 1 });
    clock.ms += 1;
    expect(await read(store(), ref)).toEqual({ ref, data: undefined, version });
  });

  it('transact replaces an expired document, which then no longer expires', async () => {
    const ref = freshRef();
    await put(store(), ref, { n: 7 }, clock.ms + 10);
    clock.ms += 10;
    const { result } = await transact(store(), [ref], ([snapshot]) => ({
      writes: [{ ref, data: { n: 1 } }],
      result: snapshot?.data,
    }));
    expect(result).toBeUndefined();
    clock.ms += 1_000_000;
    expect((await read(store(), ref)).data).toEqual({ n: 1 });
  });
}

function callCases(store: () => Store): void {
  it('every call rejects with the reason of a signal that has fired, and writes nothing', async () => {
    const ref = freshRef();
    const reason = new Error('gone');
    const options = { signal: AbortSignal.abort(reason) };
    await expect(store().get([ref], options)).rejects.toBe(reason);
    await expect(store().commit([{ ref, data: {} }], options)).rejects.toBe(reason);
    await expect(store().query({ collection: 'cases', orderBy: 'n', limit: 1 }, options)).rejects.toBe(reason);
    await expect(store().lock([ref], () => ({ writes: [], result: 0 }), options)).rejects.toBe(reason);
    expect((await read(store(), ref)).version).toBeNull();
  });

  it.each(['', 'a/b', 'a.b', 'é', 'a b', 'x'.repeat(129)])('the id %j is refused everywhere', async (id) => {
    const ref = { collection: 'cases', id };
    await expect(store().get([ref])).rejects.toBeInstanceOf(TypeError);
    await expect(store().commit([{ ref, data: {} }])).rejects.toBeInstanceOf(TypeError);
    await expect(store().lock([ref], () => ({ writes: [], result: 0 }))).rejects.toBeInstanceOf(TypeError);
    expect(() => store().watch(ref, () => {})).toThrow(TypeError);
  });

  it.each(['x', '-_-', '__x__', '__', '0'.repeat(128)])('the id %j is accepted', async (id) => {
    const ref = { collection: freshCollection(), id };
    await put(store(), ref, { n: 1 });
    expect(await read(store(), ref)).toMatchObject({ ref, data: { n: 1 } });
    const found = await store().query({ collection: ref.collection, orderBy: 'n', limit: 1 });
    expect(found.map((snapshot) => snapshot.ref)).toEqual([ref]);
  });

  it('a ping of the store resolves', async () => {
    await store().ping();
  });
}
