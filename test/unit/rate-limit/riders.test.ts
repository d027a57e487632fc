// The first commit of a call joins the one that counts it: each call is counted once, and what rides is stored if and
// only if the call is admitted. Time is virtual.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { Limit } from '../../../shared/config/values/limits.ts';
import { createDocumentLimiter } from '../../../shared/rate-limit/document-limiter.ts';
import type { TakeRequest } from '../../../shared/rate-limit/limiter.ts';
import { setRevoked, toLimitRef, toLimitState } from '../../../shared/rate-limit/windows/limit-document.ts';
import { createRide } from '../../../shared/store/ride.ts';
import type { Snapshot } from '../../../shared/store/store.ts';
import { callWithRider, idsOf, type Ridden } from '../../support/fixtures/limiter/rider.ts';
import { createVirtualStore, type Fault } from '../../support/fixtures/limiter/virtual-store.ts';
import { createVirtualInstance, createVirtualTime } from '../../support/fixtures/limiter/virtual-time.ts';
import { createRandom } from '../../support/random.ts';

const MINUTE = 60_000;
const NOON = Date.UTC(2026, 0, 1, 12);
const KEY = 'owner';
const REF = toLimitRef(KEY);
const LIMITS: readonly Limit[] = [{ max: 100, windowMs: MINUTE }];
const SESSION = { collection: 'sessions', id: 's' };
const ABSENT: Snapshot = { ref: SESSION, data: undefined, version: null };
/** A round trip, the time of its commit included. */
const TRIP_MS = 20;
const COMMIT_MS = TRIP_MS + 5;

function createWorld() {
  const time = createVirtualTime(NOON + 1_000);
  const random = createRandom(5);
  const store = createVirtualStore({ time, random, latencyMs: [TRIP_MS, TRIP_MS], serviceMs: 5, copies: true });
  const faults: Fault[] = [];
  const link = store.connect(() => faults.shift());
  const settled = async <T>(work: Promise<T>): Promise<T> => {
    // Runs what does not wait for the clock, before the clock advances.
    await nextTurn();
    await time.run(time.nowMs + 8_000);
    return work;
  };
  return {
    time,
    faults,
    link,
    settled,
    operations: store.operations,
    count: () => toLimitState(store.peek(REF)).windows.reduce((sum, { count }) => sum + count, 0),
    ids: () => idsOf(store.peek(SESSION)),
    session: () => store.peek(SESSION),
    instance() {
      const { clock, timers } = createVirtualInstance(time, random.fork());
      const waits = { monotonic: clock.monotonic, pause: timers.pause, random: timers.random };
      const limiter = createDocumentLimiter({ store: link, clock, timers });
      const plain = (more: Partial<TakeRequest> = {}) =>
        limiter.take({ keyId: KEY, limits: LIMITS, cost: 1, mayDegrade: false, ...more });
      return {
        plain,
        /** A call that rides, and how long it took. */
        async call(id: string, cached?: Snapshot, more: Partial<TakeRequest> = {}): Promise<Ridden & { ms: number }> {
          const startMs = time.nowMs;
          const request = { keyId: KEY, limits: LIMITS, cost: 1, mayDegrade: false, ...more };
          const done = await callWithRider({ limiter, store: link, request, ref: SESSION, id, cached, waits });
          return { ...done, ms: time.nowMs - startMs };
        },
      };
    },
  };
}

/** A world with an instance that was the last one to use the key. */
async function createWarmWorld() {
  const world = createWorld();
  const warm = world.instance();
  await world.settled(warm.plain());
  Object.assign(world.operations, { reads: 0, commits: 0, conflicts: 0, locks: 0 });
  return { ...world, warm };
}

describe('a call that rides', () => {
  test('a call that rides is counted and stored in one commit, without a read', async () => {
    const world = await createWarmWorld();
    const { decision, stored, ms } = await world.settled(world.warm.call('a', ABSENT));
    expect(decision).toMatchObject({ outcome: 'admitted', remaining: 98 });
    expect(stored).toEqual(world.session());
    expect([ms, world.count(), world.ids()]).toEqual([COMMIT_MS, 2, ['a']]);
    expect(world.operations).toEqual({ reads: 0, commits: 2, conflicts: 0, locks: 0 });
    // The next call commits on the version that this one has returned.
    const next = await world.settled(world.warm.call('b', stored));
    expect([next.ms, world.count(), world.ids()]).toEqual([COMMIT_MS, 3, ['a', 'b']]);
  });

  test('a rider is read beside the limiter by an instance that was not the last one', async () => {
    const world = await createWarmWorld();
    const { ms, decision } = await world.settled(world.instance().call('a'));
    expect(decision.outcome).toBe('admitted');
    expect([ms, world.count(), world.ids()]).toEqual([TRIP_MS + COMMIT_MS, 2, ['a']]);
  });

  test('a rider waits for nothing else: where it must read alone, the limiter commits meanwhile', async () => {
    const world = await createWarmWorld();
    const { ms } = await world.settled(world.warm.call('a'));
    expect([ms, world.count(), world.ids()]).toEqual([2 * COMMIT_MS, 2, ['a']]);
  });

  test('a rider is not stored when its call is refused, by the limit or by a revocation', async () => {
    const world = await createWarmWorld();
    await world.settled(world.instance().plain({ cost: 99 }));
    // This instance has not read that the limit is reached.
    const refused = await world.settled(world.warm.call('a', ABSENT));
    expect(refused.decision.outcome).toBe('rate_limited');
    await world.time.run(world.time.nowMs + MINUTE);
    await world.settled(setRevoked(world.link, KEY, true));
    expect((await world.settled(world.warm.call('b', ABSENT))).decision.outcome).toBe('revoked');
    expect([world.count(), world.ids()]).toEqual([100, []]);
  });

  test('a rider is not stored when its caller has gone before the decision', async () => {
    const world = await createWarmWorld();
    const gone = new AbortController();
    const first = world.warm.plain();
    await world.time.run(world.time.nowMs + 5);
    const call = world.warm.call('a', ABSENT, { signal: gone.signal });
    call.catch(() => {});
    gone.abort(new Error('gone'));
    await world.settled(first);
    await expect(call).rejects.toThrow('gone');
    expect([world.count(), world.ids()]).toEqual([2, []]);
  });

  test('a rider of a call that is admitted from a block is stored by a commit of its own', async () => {
    const world = await createWarmWorld();
    const more = { limits: [{ max: 10_000, windowMs: MINUTE }] };
    // Until blocks have admitted thirty calls in a row.
    for (let inRow = 0; inRow < 30; ) {
      await world.time.run(world.time.nowMs + 20);
      let isDecided = false;
      void world.warm.plain(more).then(() => {
        isDecided = true;
      });
      await nextTurn();
      inRow = isDecided ? inRow + 1 : 0;
    }
    const call = await world.settled(world.warm.call('a', ABSENT, more));
    expect([call.decision.outcome, world.ids()]).toEqual(['admitted', ['a']]);
    expect(call.ms).toBe(COMMIT_MS);
  });
});

describe('a commit that is lost', () => {
  test('a commit that conflicts on the document of the rider counts the call once, and the rider is stored after it', async () => {
    const world = await createWarmWorld();
    await world.settled(world.link.commit([{ ref: SESSION, data: { ids: ['other'] } }]));
    const { decision } = await world.settled(world.warm.call('a', ABSENT));
    expect(decision.outcome).toBe('admitted');
    expect([world.count(), world.ids()]).toEqual([2, ['other', 'a']]);
  });

  test('a commit that conflicts with another instance counts the call once, and the rider is stored after it', async () => {
    const world = await createWarmWorld();
    await world.settled(world.instance().plain());
    const { decision, ms } = await world.settled(world.warm.call('a', ABSENT));
    expect(decision.outcome).toBe('admitted');
    expect([world.count(), world.ids()]).toEqual([3, ['a']]);
    // The conflict, then the limiter's read and commit, with the rider's read beside; then its commit.
    expect(ms).toBeLessThanOrEqual(2 * TRIP_MS + 2 * COMMIT_MS + 5);
  });

  test('a commit that conflicts with an instance that used up the limit refuses the call, and stores nothing', async () => {
    const world = await createWarmWorld();
    await world.settled(world.instance().plain({ cost: 99 }));
    expect((await world.settled(world.warm.call('a', ABSENT))).decision.outcome).toBe('rate_limited');
    expect([world.count(), world.ids()]).toEqual([100, []]);
  });
});

describe('a rider whose writes the store refuses', () => {
  test('a rider whose writes the store refuses fails alone: its call is counted once, and so is the next one', async () => {
    const world = await createWarmWorld();
    const { commit } = world.link;
    world.link.commit = async (writes, options) => {
      if (writes.some(({ ref }) => ref === SESSION)) throw new TypeError('too large');
      return commit(writes, options);
    };
    const calls = [world.warm.call('a', ABSENT)];
    await world.time.run(world.time.nowMs + 1);
    calls.push(world.warm.call('b', ABSENT));
    const done = await world.settled(Promise.all(calls));
    expect(done.map(({ decision, stored }) => [decision.outcome, stored])).toEqual(
      Array(2).fill(['admitted', undefined]),
    );
    expect([world.count(), world.ids()]).toEqual([3, []]);
  });
});

describe('a commit without a response', () => {
  test.each(['unknown', 'lost', 'late'] as const)(
    'a commit without a response (%s) is looked up: the call is admitted, counted once and stored once',
    async (fault) => {
      const world = await createWarmWorld();
      world.faults.push(fault);
      const { decision, stored } = await world.settled(world.warm.call('a', ABSENT));
      expect(decision).toMatchObject({ outcome: 'admitted', remaining: 98 });
      expect([world.count(), world.ids(), stored]).toEqual([2, ['a'], world.session()]);
    },
  );

  test.each(['unknown', 'lost', 'late'] as const)(
    'a commit (%s) that stays without a response: the call is refused as unavailable, and counted once at most',
    async (fault) => {
      const world = await createWarmWorld();
      world.faults.push(fault, fault);
      const { decision } = await world.settled(world.warm.call('a', ABSENT));
      const isFound = fault === 'unknown';
      expect(decision.outcome).toBe(isFound ? 'admitted' : 'unavailable');
      expect(world.count()).toBeLessThanOrEqual(2);
      expect(world.ids().length).toBeLessThanOrEqual(world.count() - 1);
    },
  );
});

describe('other calls of the key', () => {
  test('other calls of the key that come with a rider are counted in one commit, and the rider is stored after it', async () => {
    const world = await createWarmWorld();
    const calls = [world.warm.call('a', ABSENT), world.warm.plain(), world.warm.plain()];
    const decisions = await world.settled(Promise.all(calls));
    expect(decisions.map((done) => ('decision' in done ? done.decision.outcome : done.outcome))).toEqual(
      Array(3).fill('admitted'),
    );
    expect([world.count(), world.ids(), world.operations.commits]).toEqual([4, ['a'], 2]);
  });

  test('other calls of the key wait for a rider that reads as long as the limiter has read, and no longer', async () => {
    const world = await createWarmWorld();
    const ride = createRide();
    ride.expect();
    const startMs = world.time.nowMs;
    const call = world.instance().plain({ ride });
    const done = call.then(() => world.time.nowMs - startMs);
    expect(await world.settled(done)).toBe(2 * TRIP_MS + COMMIT_MS);
  });

  test('other calls of the key do not wait for a call that does not ride', async () => {
    const world = await createWarmWorld();
    const startMs = world.time.nowMs;
    const call = world.instance().plain({ ride: createRide() });
    expect(await world.settled(call.then(() => world.time.nowMs - startMs))).toBe(TRIP_MS + COMMIT_MS);
  });
});
