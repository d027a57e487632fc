// The Firestore store neither blocks nor loses an update when Firestore hangs, ends, loses a response, or gets
// conflicting writes of many instances. The suite has an emulator of its own.
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { systemClock } from '../../../shared/clock.ts';
import { refKey } from '../../../shared/store/document.ts';
import { Locks } from '../../../shared/store/firestore/fair-lock.ts';
import { createFirestoreStore } from '../../../shared/store/firestore/firestore.ts';
import { Conflict, type Ref, type Store } from '../../../shared/store/store.ts';
import { transact } from '../../../shared/store/transact.ts';
import { type Emulator, startFirestoreEmulator } from '../../support/fixtures/database/emulators.ts';
import { countOf, freshRef, put, read } from '../../support/fixtures/database/store.ts';
import { startFaultProxy } from '../../support/fixtures/network/fault-proxy.ts';
import { describeWith } from '../../support/requirements.ts';

describeWith('emulators', 'Firestore store under faults', () => {
  let emulator: Emulator;
  const stores: Store[] = [];
  const open = (emulatorHost = emulator.host): Store => {
    const store = createFirestoreStore({ projectId: 'demo-faults', emulatorHost, clock: systemClock });
    stores.push(store);
    return store;
  };
  /** The document that has the queue of a lock. */
  const lockRefOf = (ref: Ref): Ref => Locks.ref(createHash('sha256').update(refKey(ref)).digest('base64url'));
  const queueAt = async (store: Store, lockRef: Ref): Promise<readonly string[] | undefined> => {
    const [snapshot] = await store.get([lockRef]);
    return Locks.read(snapshot)?.queue;
  };
  beforeAll(async () => {
    emulator = await startFirestoreEmulator();
  }, 90_000);
  afterAll(async () => {
    await Promise.all(stores.map((store) => store.close()));
    await emulator.stop();
  });

  it('every kind of call is unavailable at its deadline while Firestore does not answer', {
    timeout: 30_000,
  }, async () => {
    const store = open();
    const ref = freshRef();
    await put(store, ref, { n: 1 });
    await emulator.suspend();
    try {
      const call = { timeoutMs: 100 };
      const calls = [
        () => store.get([ref], call),
        () => store.commit([{ ref, data: {}, if: 'absent' as const }], call),
        () => store.query({ collection: 'cases', orderBy: 'n', limit: 1 }, call),
        () => store.lock([ref], () => ({ writes: [], result: 0 }), call),
        () => store.ping(call),
      ];
      for (const start of calls) {
        // The default deadline of 10 s for each of them would exceed the timeout of the test.
        await expect(start()).rejects.toMatchObject({ name: 'RpcError', reason: 'unavailable' });
      }
      const controller = new AbortController();
      const aborted = store.get([ref], { signal: controller.signal });
      controller.abort(new Error('gone'));
      await expect(aborted).rejects.toThrow('gone');
    } finally {
      emulator.resume();
    }
    await store.ping();
  });

  it('a commit whose response is lost fails as unavailable, not as a Conflict', async () => {
    const proxy = await startFaultProxy(emulator.host);
    const ref = freshRef();
    const store = open(proxy.host);
    const direct = open();
    const version = await put(store, ref, { n: 1 });
    proxy.drop('responses');
    const commit = store.commit([{ ref, data: { n: 2 }, if: { version } }], { timeoutMs: 30_000 });
    const lost = expect(commit).rejects.toMatchObject({ name: 'RpcError', reason: 'unavailable' });
    await expect.poll(async () => (await read(direct, ref)).data, { interval: 10 }).toEqual({ n: 2 });
    proxy.cut();
    // A client that repeats the commit by itself finds its own write, and would report a Conflict.
    await lost;
    await expect(direct.commit([{ ref, data: {}, if: { version } }])).rejects.toBeInstanceOf(Conflict);
    await proxy.stop();
  });

  it('calls and watches work again after a black hole, although its connections stay dead', {
    timeout: 60_000,
  }, async () => {
    const proxy = await startFaultProxy(emulator.host);
    const ref = freshRef();
    const direct = open();
    const store = open(proxy.host);
    await put(direct, ref, { n: 1 });
    const seen: number[] = [];
    let changed = Promise.withResolvers<void>();
    const stop = store.watch(ref, (snapshot) => {
      seen.push(countOf(snapshot));
      changed.resolve();
      changed = Promise.withResolvers();
    });
    while (seen.at(-1) !== 1) await changed.promise;
    expect((await read(store, ref)).data).toEqual({ n: 1 });
    proxy.blackHole(true);
    const call = { timeoutMs: 200 };
    for (let n = 0; n < 3; n++) await expect(store.ping(call)).rejects.toMatchObject({ reason: 'unavailable' });
    await put(direct, ref, { n: 2 });
    proxy.blackHole(false);
    // The connection that the replacing client opened meanwhile is dead, too.
    await expect
      .poll(() => store.ping({ timeoutMs: 1_000 }).catch((error: unknown) => error), { timeout: 40_000 })
      .toBeUndefined();
    while (seen.at(-1) !== 2) await changed.promise;
    stop();
    await store.close();
    await proxy.stop();
  });

  it('a call fails at once while nothing listens, and works again soon after a restart', {
    timeout: 90_000,
  }, async () => {
    const store = open();
    const ref = freshRef();
    await put(store, ref, { n: 1 });
    await emulator.stop();
    // Longer than the timeout of the test: neither call waits for it.
    const call = { timeoutMs: 120_000 };
    await expect(store.get([ref], call)).rejects.toMatchObject({ reason: 'unavailable' });
    await expect(store.commit([{ ref, data: {} }], call)).rejects.toMatchObject({ reason: 'unavailable' });
    await emulator.restart();
    const deadline = performance.now() + 10_000;
    for (;;) {
      const outcome = await put(store, ref, { n: 2 }).catch((error: unknown) => error);
      if (typeof outcome === 'string') break;
      expect(outcome).toMatchObject({ reason: 'unavailable' });
      if (performance.now() > deadline) throw new Error('the store did not come back');
    }
    expect((await read(store, ref)).data).toEqual({ n: 2 });
  });

  it('all transactions of 20 instances that contend for one document are committed', { timeout: 120_000 }, async () => {
    const ref = freshRef();
    const instances = Array.from({ length: 20 }, () => open());
    await Promise.all(
      instances.map(async (store) => {
        for (let round = 0; round < 3; round++) {
          await transact(
            store,
            [ref],
            ([snapshot]) => ({ writes: [{ ref, data: { n: countOf(snapshot) + 1 } }], result: 0 }),
            { timeoutMs: 30_000 },
          );
        }
      }),
    );
    expect((await read(open(), ref)).data).toEqual({ n: 60 });
  });

  it('locks of many instances are granted, one after the other', { timeout: 120_000 }, async () => {
    const ref = freshRef();
    const instances = Array.from({ length: 6 }, () => open());
    await Promise.all(
      instances.flatMap((store) =>
        [1, 2, 3].map(() =>
          store.lock([ref], ([snapshot]) => ({ writes: [{ ref, data: { n: countOf(snapshot) + 1 } }], result: 0 }), {
            timeoutMs: 30_000,
          }),
        ),
      ),
    );
    expect((await read(open(), ref)).data).toEqual({ n: 18 });
  });

  it('the lock is granted in the order in which instances came, without a holder that died', async () => {
    const ref = freshRef();
    const lockRef = lockRefOf(ref);
    const outside = open();
    await put(outside, lockRef, { queue: ['dead'] });
    const order: number[] = [];
    const locks: Promise<number>[] = [];
    for (const n of [1, 2, 3, 4]) {
      const compute = () => ({ writes: [{ ref, data: { n } }], result: order.push(n) });
      locks.push(open().lock([ref], compute, { timeoutMs: 30_000 }));
      await expect.poll(() => queueAt(outside, lockRef), { interval: 10 }).toHaveLength(n + 1);
    }
    await Promise.all(locks);
    expect(order).toEqual([1, 2, 3, 4]);
    await expect.poll(() => queueAt(outside, lockRef)).toEqual([]);
  });

  it('a caller that stopped waiting keeps no place in the queue of a lock', async () => {
    const ref = freshRef();
    const lockRef = lockRefOf(ref);
    const outside = open();
    await put(outside, lockRef, { queue: ['holder'] });
    const controller = new AbortController();
    const lock = open().lock([ref], () => ({ writes: [], result: 0 }), { signal: controller.signal });
    await expect.poll(() => queueAt(outside, lockRef), { interval: 10 }).toHaveLength(2);
    controller.abort(new Error('enough'));
    await expect(lock).rejects.toThrow('enough');
    await expect.poll(() => queueAt(outside, lockRef), { interval: 10 }).toEqual(['holder']);
  });

  it('a store that was closed rejects every call as unavailable', async () => {
    const store = open();
    await store.ping();
    await store.close();
    await store.close();
    await expect(store.ping()).rejects.toMatchObject({ reason: 'unavailable' });
  });
});
