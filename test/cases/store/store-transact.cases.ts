// `transact` over a Store loses no update: it uses cached snapshots only as far as they are current, repeats lost
// rounds, and takes the lock as its last resort.
import { expect, it } from 'vitest';
import { Conflict, type Ref, type Snapshot, type Store } from '../../../shared/store/store.ts';
import { transact } from '../../../shared/store/transact.ts';
import { countOf, freshRef, put, read, type StoreFixture } from '../../support/fixtures/database/store.ts';

/** Run by `storeCases`. */
export function storeTransactCases({ store, clock }: StoreFixture): void {
  const increment = (ref: Ref) => (snapshots: readonly Snapshot[]) => {
    const n = countOf(snapshots[0]) + 1;
    return { writes: [{ ref, data: { n } }], result: n };
  };

  it('transact rereads and retries when another writer committed in between', async () => {
    const ref = freshRef();
    await put(store(), ref, { n: 1 });
    const cached = await store().get([ref]);
    await put(store(), ref, { n: 41 });
    const { result, snapshots } = await transact(store(), [ref], increment(ref), { cached });
    expect(result).toBe(42);
    expect(snapshots).toEqual(await store().get([ref]));
  });

  it('transact commits riders with its own writes, and after a lost commit continues without them', async () => {
    const [ref, rider, taken] = [freshRef(), freshRef(), freshRef()];
    const withRider = (to: Ref) => (snapshots: readonly Snapshot[]) => ({
      ...increment(ref)(snapshots),
      riders: [{ ref: to, data: { rides: true }, if: 'absent' as const }],
    });
    const first = await transact(store(), [ref], withRider(rider));
    expect(first.riders).toEqual([(await read(store(), rider)).version]);
    await put(store(), taken, { n: 1 });
    const second = await transact(store(), [ref], withRider(taken), { cached: first.snapshots });
    expect([second.result, second.riders]).toEqual([2, undefined]);
    expect((await read(store(), ref)).data).toEqual({ n: 2 });
    expect((await read(store(), taken)).data).toEqual({ n: 1 });
  });

  it('transact continues from the snapshots of its own last commit', async () => {
    const ref = freshRef();
    let cached = (await transact(store(), [ref], increment(ref))).snapshots;
    for (let round = 0; round < 3; round++) {
      cached = (await transact(store(), [ref], increment(ref), { cached })).snapshots;
    }
    expect((await read(store(), ref)).data).toEqual({ n: 4 });
    expect(cached).toEqual(await store().get([ref]));
  });

  it('transact writes changed, added and removed fields of a document that it has read, and keeps the others', async () => {
    const ref = freshRef();
    const kept = { list: [{ a: 1 }, 'two'], 'a.b': { c: null }, 'back`tick\\': 'x' };
    await put(store(), ref, { ...kept, changed: { n: 1 }, 'ü removed.': true, emptied: 'x' }, Date.now() + 3_600_000);
    const expected = { ...kept, changed: { m: 2 }, '1 added `.\\': [] };
    const { snapshots } = await transact(store(), [ref], ([snapshot]) => {
      const changes = { changed: { m: 2 }, '1 added `.\\': [], emptied: undefined };
      const data = { ...snapshot?.data, ...changes };
      Reflect.deleteProperty(data, 'ü removed.');
      return { writes: [{ ref, data }], result: 0 };
    });
    const stored = await read(store(), ref);
    expect(stored.data).toEqual(expected);
    expect(stored.version).toBe(snapshots[0]?.version);
    // A second write, made from the result of the first.
    await transact(
      store(),
      [ref],
      ([snapshot]) => ({
        writes: [{ ref, data: { ...snapshot?.data, changed: 3 } }],
        result: 0,
      }),
      { cached: snapshots },
    );
    expect((await read(store(), ref)).data).toEqual({ ...expected, changed: 3 });
  });

  it('transact gives a document that it has read a new expiry, or none', async () => {
    const ref = freshRef();
    const soonMs = clock.ms + 60_000;
    await put(store(), ref, { n: 1 }, soonMs);
    const write = (expireAtMs?: number) =>
      transact(store(), [ref], ([snapshot]) => ({
        writes: [{ ref, data: { ...snapshot?.data }, ...(expireAtMs !== undefined && { expireAtMs }) }],
        result: 0,
      }));
    await write(soonMs + 60_000);
    clock.ms = soonMs + 1;
    expect((await read(store(), ref)).data).toEqual({ n: 1 });
    await write();
    clock.ms += 3_600_000;
    expect((await read(store(), ref)).data).toEqual({ n: 1 });
  });

  it('transact does not let a stale cache refuse: a decision to write nothing is taken again on fresh documents', async () => {
    const ref = freshRef();
    await put(store(), ref, { full: true });
    const cached = await store().get([ref]);
    await put(store(), ref, { full: false });
    const { result } = await transact(
      store(),
      [ref],
      ([snapshot]) => ({
        writes: [],
        result: Reflect.get(snapshot?.data ?? {}, 'full') === true ? 'refused' : 'admitted',
      }),
      { cached },
    );
    expect(result).toBe('admitted');
  });

  it('a transaction that lost five optimistic rounds commits under the lock', async () => {
    const ref = freshRef();
    await put(store(), ref, { n: 0 });
    const contended: Store = {
      ...store(),
      async commit(writes, options) {
        await put(store(), ref, { n: Number((await read<{ n: number }>(store(), ref)).data?.n) + 100 });
        return store().commit(writes, options);
      },
    };
    const { result, snapshots } = await transact(contended, [ref], increment(ref));
    expect(result).toBe(501);
    expect(snapshots).toEqual(await store().get([ref]));
  });

  it('transact keeps under lock the preconditions of documents that were not read', async () => {
    const [a, b] = [freshRef(), freshRef()];
    await put(store(), b, { taken: true });
    const locked = store().lock([a], () => ({
      writes: [
        { ref: a, data: { n: 1 } },
        { ref: b, data: { n: 1 }, if: 'absent' },
      ],
      result: 0,
    }));
    await expect(locked).rejects.toBeInstanceOf(Conflict);
    expect((await read(store(), a)).version).toBeNull();
    const result = await store().lock([a, b], ([, second]) => ({
      writes: [{ ref: a, data: { n: 1 }, if: 'absent' }],
      result: second?.data,
    }));
    expect(result).toEqual({ taken: true });
    expect((await read(store(), a)).data).toEqual({ n: 1 });
  });

  it('transact leaves everything as it was when the computation under lock throws', async () => {
    const ref = freshRef();
    await put(store(), ref, { n: 1 });
    const failure = new Error('no');
    const locked = store().lock([ref], () => {
      throw failure;
    });
    await expect(locked).rejects.toBe(failure);
    await put(store(), ref, { n: 2 });
    expect((await read(store(), ref)).data).toEqual({ n: 2 });
  });

  it('transact loses none of 50 increments made at once', { timeout: 60_000 }, async () => {
    const ref = freshRef();
    const results = await Promise.all(
      Array.from({ length: 50 }, async () => (await transact(store(), [ref], increment(ref))).result),
    );
    expect(results.sort((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, index) => index + 1));
    expect((await read(store(), ref)).data).toEqual({ n: 50 });
  });
}
