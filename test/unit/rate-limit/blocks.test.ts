// Calls that are admitted from blocks get the right decisions, and other instances read the right documents. Time is
// virtual.
import { describe, expect, test } from 'vitest';
import type { Limit } from '../../../shared/config/values/limits.ts';
import { createEntries } from '../../../shared/rate-limit/counting/entries.ts';
import { takeBlocks } from '../../../shared/rate-limit/counting/take-blocks.ts';
import { createDocumentLimiter } from '../../../shared/rate-limit/document-limiter.ts';
import type { RateDecision } from '../../../shared/rate-limit/limiter.ts';
import { retryPauseMs } from '../../../shared/rate-limit/windows/block-policy.ts';
import { heldCalls, updateHolder } from '../../../shared/rate-limit/windows/blocks.ts';
import {
  setRevoked,
  toLimitRef,
  toLimitState,
  toLimitWrite,
} from '../../../shared/rate-limit/windows/limit-document.ts';
import { EMPTY_STATE, type LimitState } from '../../../shared/rate-limit/windows/limit-state.ts';
import { addCalls, charge, report } from '../../../shared/rate-limit/windows/windows.ts';
import { createReleasedLimiter } from '../../support/fixtures/limiter/released-limiter.ts';
import { createVirtualStore, type Fault } from '../../support/fixtures/limiter/virtual-store.ts';
import { createVirtualInstance, createVirtualTime } from '../../support/fixtures/limiter/virtual-time.ts';
import { createRandom } from '../../support/random.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const NOON = Date.UTC(2026, 0, 1, 12);
const KEY = 'owner';
const REF = toLimitRef(KEY);
const LIMITS: readonly Limit[] = [
  { max: 13_000, windowMs: MINUTE },
  { max: 500_000, windowMs: HOUR },
];

function createWorld(startMs = NOON + 10_000) {
  const time = createVirtualTime(startMs);
  const random = createRandom(7);
  const states: { readonly atMs: number; readonly state: LimitState }[] = [];
  const store = createVirtualStore({
    time,
    random,
    latencyMs: [10, 30],
    serviceMs: 5,
    copies: true,
    onCommit: (snapshot) => states.push({ atMs: time.nowMs, state: toLimitState(snapshot) }),
  });
  const faults: Fault[] = [];
  const link = store.connect(() => faults.shift());
  const world = {
    time,
    states,
    faults,
    link,
    operations: store.operations,
    state: () => toLimitState(store.peek(REF)),
    count: (windowMs: number) =>
      world.state().windows.reduce((sum, { window_ms, count }) => (window_ms === windowMs ? sum + count : sum), 0),
    instance() {
      const instance = createVirtualInstance(time, random.fork());
      const limiter = createDocumentLimiter({ store: link, ...instance });
      const call = (more: { limits?: readonly Limit[]; cost?: number } = {}): Promise<RateDecision> =>
        limiter.take({ keyId: KEY, limits: LIMITS, cost: 1, mayDegrade: false, ...more });
      return Object.assign(instance, { call, close: () => limiter.close?.() });
    },
    /** `rate` calls a second for `forMs`; returns the decisions, each with its duration. */
    async traffic(
      instance: { call: (more?: object) => Promise<RateDecision> },
      rate: number,
      forMs: number,
      more = {},
    ) {
      const seen: { readonly decision: RateDecision; readonly atMs: number; readonly tookMs: number }[] = [];
      for (let call = 0; call < (rate * forMs) / 1_000; call++) {
        time.after((call * 1_000) / rate, () => {
          const startMs = time.nowMs;
          void instance
            .call(more)
            .then((decision) => seen.push({ decision, atMs: time.nowMs, tookMs: time.nowMs - startMs }));
        });
      }
      await time.run(time.nowMs + forMs);
      return seen;
    },
    async settled(decision: Promise<RateDecision>): Promise<RateDecision> {
      await time.run(time.nowMs + 500);
      return decision;
    },
  };
  return world;
}

const outcomes = (seen: readonly { readonly decision: RateDecision }[]): string[] => [
  ...new Set(seen.map(({ decision }) => decision.outcome)),
];

describe('a busy owner', () => {
  test('a busy owner is admitted from memory, and unused calls are given back within a second of its last call', async () => {
    const world = createWorld();
    const seen = await world.traffic(world.instance(), 50, 10_000);
    expect(outcomes(seen)).toEqual(['admitted']);
    const { reads, commits } = world.operations;
    expect((reads + commits) / seen.length).toBeLessThanOrEqual(0.1);
    expect(seen.filter(({ tookMs }) => tookMs > 0).length).toBeLessThanOrEqual(20);
    await world.time.run(world.time.nowMs + 1_000);
    expect(world.count(MINUTE)).toBe(500);
    expect(world.count(HOUR)).toBe(500);
    expect(heldCalls(world.state(), world.time.nowMs)).toBe(0);
  });

  test('a call of a busy owner on four instances waits no longer than one of a calm owner, also at the end of a minute', async () => {
    const world = createWorld(NOON + MINUTE - 6_000);
    const all = Array.from({ length: 4 }, () => world.instance());
    const seen = (await Promise.all(all.map((instance) => world.traffic(instance, 50, 12_000)))).flat();
    expect(outcomes(seen)).toEqual(['admitted']);
    const late = seen.filter(({ atMs }) => atMs > NOON + MINUTE - 3_000);
    expect(late.filter(({ tookMs }) => tookMs > 0).length).toBeLessThanOrEqual(late.length / 100);
    await world.time.run(world.time.nowMs + 1_000);
    expect(world.count(HOUR)).toBe(2_400);
  });

  test('a busy owner’s blocks have at most 2 % of its smallest limit when one is taken', async () => {
    const world = createWorld();
    const all = Array.from({ length: 6 }, () => world.instance());
    await Promise.all(all.map((instance) => world.traffic(instance, 100, 5_000)));
    expect(world.states.length).toBeGreaterThan(10);
    for (const { atMs, state } of world.states) expect(heldCalls(state, atMs)).toBeLessThanOrEqual(260);
  });

  test('a busy owner is counted call by call where a limit allows fewer than 1,000 calls', async () => {
    const world = createWorld();
    const limits = [{ max: 999, windowMs: MINUTE }];
    await world.traffic(world.instance(), 50, 3_000, { limits });
    expect(world.operations.commits).toBeGreaterThan(100);
    expect(world.state().holders).toBeUndefined();
  });

  test('a busy owner uses no block of other limits', async () => {
    const world = createWorld();
    const instance = world.instance();
    await world.traffic(instance, 50, 2_000);
    const limits = [{ max: 1_000, windowMs: MINUTE }];
    const before = world.operations.commits;
    expect(await world.settled(instance.call({ limits }))).toMatchObject({ outcome: 'admitted', limit: 1_000 });
    expect(world.operations.commits).toBeGreaterThan(before);
  });
});

describe('an instance that ends', () => {
  test('an instance that closes gives unused calls back, and counts further calls one by one', async () => {
    const world = createWorld();
    const instance = world.instance();
    await world.traffic(instance, 50, 2_000);
    expect(heldCalls(world.state(), world.time.nowMs)).toBeGreaterThan(0);
    const closed = instance.close();
    await world.time.run(world.time.nowMs + 200);
    await closed;
    expect(heldCalls(world.state(), world.time.nowMs)).toBe(0);
    expect(world.count(HOUR)).toBe(100);
    await world.traffic(instance, 50, 2_000);
    await world.time.run(world.time.nowMs + 200);
    expect(heldCalls(world.state(), world.time.nowMs)).toBe(0);
    expect(world.count(HOUR)).toBe(200);
  });

  test('an instance that closes gives back the block that it is taking at that moment', async () => {
    const world = createWorld();
    const instance = world.instance();
    let calls = 0;
    // Until its first block is stored: the response is still on its way, and no call waits.
    for (let ms = 0; world.state().holders === undefined; ms++) {
      if (ms % 100 === 0) void instance.call().then(() => calls++);
      await world.time.run(world.time.nowMs + 1);
    }
    const end = { isClosed: false };
    void instance.close()?.then(() => Object.assign(end, { isClosed: true }));
    while (!end.isClosed) await world.time.run(world.time.nowMs + 1);
    expect(heldCalls(world.state(), world.time.nowMs)).toBe(0);
    expect(world.count(HOUR)).toBe(calls);
  });
});

describe('an instance whose store fails', () => {
  test('an instance gives calls back when the store responds again, also without another call', async () => {
    const world = createWorld();
    const instance = world.instance();
    await world.traffic(instance, 50, 2_000);
    expect(heldCalls(world.state(), world.time.nowMs)).toBeGreaterThan(0);
    // Two open the breaker of the limiter.
    world.faults.push('lost', 'lost', 'lost');
    await world.time.run(world.time.nowMs + 15_000);
    expect(world.faults).toEqual([]);
    expect(world.count(HOUR)).toBe(100);
  });
});

describe('a document of version 1.2.0', () => {
  test('a document of version 1.2.0 is counted on, and keeps what other versions write, while an instance of that version counts too', async () => {
    const world = createWorld();
    const document = {
      windows: [
        { window_ms: MINUTE, start_ms: NOON, count: 7 },
        { window_ms: HOUR, start_ms: NOON, count: 70 },
      ],
      revoked: false,
      of_another_version: { kept: true },
    };
    const stored = world.link.commit([{ ref: REF, data: document }]);
    await world.time.run(world.time.nowMs + 100);
    await stored;
    const { clock, timers } = createVirtualInstance(world.time, createRandom(3));
    const waits = { monotonic: clock.monotonic, pause: timers.pause, random: timers.random };
    const released = createReleasedLimiter(world.link, clock, waits);
    const call = (): Promise<RateDecision> => released.take({ keyId: KEY, limits: LIMITS, cost: 1, mayDegrade: false });
    const seen = (
      await Promise.all([world.traffic(world.instance(), 50, 4_000), world.traffic({ call }, 2, 4_000)])
    ).flat();
    expect(world.states.some(({ state }) => state.holders !== undefined)).toBe(true);
    await world.time.run(world.time.nowMs + 2_000);
    expect(outcomes(seen)).toEqual(['admitted']);
    expect([world.count(MINUTE), world.count(HOUR)]).toEqual([215, 278]);
    expect(world.state()).toMatchObject({ of_another_version: { kept: true } });
  });
});

describe('a lost commit', () => {
  const now = NOON + 20_000;
  const holders = (count: number) =>
    Array.from({ length: count }, (_, index) => ({ id: `h${index}`, rate: 10, seen_ms: now - index, blocks: [] }));
  const boundOf = (count: number, id: string, round = 0): number =>
    retryPauseMs({ ...EMPTY_STATE, holders: holders(count) }, id, round, now);

  test('a lost commit of many instances is retried first by the one that has waited longest', () => {
    const bounds = holders(100).map(({ id }) => boundOf(100, id));
    expect(bounds).toEqual(bounds.toSorted((a, b) => b - a));
    expect([bounds[0], bounds[99]]).toEqual([5_940, 50]);
  });

  test('a lost commit of few instances is retried within 50 ms, later as more commits are lost', () => {
    expect([boundOf(4, 'h0'), boundOf(4, 'h3')]).toEqual([50, 50]);
    expect(boundOf(4, 'h0', 5)).toBeGreaterThan(boundOf(4, 'h0', 4));
  });
});

describe('a revoked key', () => {
  test.each([1, 25])('a revoked key is refused within 2 s on %i instances', async (instances) => {
    const world = createWorld();
    const all = Array.from({ length: instances }, () => world.instance());
    const rate = 200 / instances;
    await Promise.all(all.map((instance) => world.traffic(instance, rate, 4_000)));
    const running = all.map((instance) => world.traffic(instance, rate, 4_000));
    const revokedAtMs: number[] = [];
    void setRevoked(world.link, KEY, true).then(() => revokedAtMs.push(world.time.nowMs));
    const seen = (await Promise.all(running)).flat();
    expect(revokedAtMs).toHaveLength(1);
    const late = seen.filter(({ atMs }) => atMs > (revokedAtMs[0] ?? 0) + 2_000);
    expect(outcomes(late)).toEqual(['revoked']);
  });
});

describe('a refused call', () => {
  const full = (calls: number, nowMs: number): LimitState => ({
    ...addCalls(EMPTY_STATE, LIMITS, 13_000, nowMs, nowMs).state,
    holders: [
      {
        id: 'other',
        rate: 10,
        seen_ms: nowMs,
        blocks: [{ id: 'block', calls, until_ms: nowMs + 1_000, windows: [{ window_ms: MINUTE, start_ms: NOON }] }],
      },
    ],
  });

  test('a refused call that a block of another instance would admit returns after a second, and fits after the give-back', async () => {
    const world = createWorld();
    const [instance, fresh] = [world.instance(), world.instance()];
    const state = full(10, world.time.nowMs);
    await store(world, state);
    const refused = await world.settled(instance.call());
    expect(refused).toMatchObject({ outcome: 'rate_limited', remaining: 0, retryAfterMs: 1_000 });
    const reads = world.operations.reads;
    expect(await world.settled(instance.call())).toMatchObject({ outcome: 'rate_limited', retryAfterMs: 1_000 });
    expect(world.operations.reads).toBe(reads);
    const update = { id: 'other', rate: 1, left: new Map(), giveBacks: [{ id: 'block', unused: 4 }] };
    await store(world, updateHolder(state, update, world.time.nowMs));
    await world.time.run(world.time.nowMs + 1_000);
    expect(await world.settled(instance.call({ cost: 4 }))).toMatchObject({ outcome: 'admitted', remaining: 0 });
    expect(await world.settled(fresh.call())).toMatchObject({
      outcome: 'rate_limited',
      retryAfterMs: expect.any(Number),
    });
  });

  test('a refused call that no block would admit returns when its window ends', async () => {
    const world = createWorld();
    await store(world, full(0, world.time.nowMs));
    const refused = await world.settled(world.instance().call());
    expect(refused.retryAfterMs).toBeGreaterThan(40_000);
  });

  test('a refused call that its own blocks would admit gives them back first', async () => {
    const world = createWorld();
    const limits = [{ max: 1_000, windowMs: MINUTE }];
    const instance = world.instance();
    await world.traffic(instance, 20, 3_000, { limits });
    const used = world.count(MINUTE) - heldCalls(world.state(), world.time.nowMs);
    const all = await world.settled(instance.call({ limits, cost: 1_000 - 60 }));
    expect([used <= 60, all.outcome, all.remaining]).toEqual([true, 'admitted', 0]);
  });

  function store(world: ReturnType<typeof createWorld>, state: LimitState): Promise<unknown> {
    const done = world.link.commit([toLimitWrite(REF, state)]);
    return world.time.run(world.time.nowMs + 100).then(() => done);
  }
});

describe('a block', () => {
  const now = NOON + 58_000;
  const limits = [{ max: 1_000, windowMs: MINUTE }];

  test('a block is given back once, by its id', () => {
    const windows = [{ window_ms: MINUTE, start_ms: NOON }];
    const block = { id: 'a', calls: 10, until_ms: now + 1_000, windows };
    const state: LimitState = {
      ...addCalls(EMPTY_STATE, limits, 50, now, now).state,
      holders: [{ id: 'me', rate: 1, seen_ms: now, blocks: [block] }],
    };
    const update = { id: 'me', rate: 1, left: new Map(), giveBacks: [{ id: 'a', unused: 7 }] };
    const once = updateHolder(state, update, now);
    expect(once.windows[0]?.count).toBe(43);
    expect(updateHolder(once, update, now).windows[0]?.count).toBe(43);
  });

  test('a block for the next windows leaves the current one open until a clock reaches them', () => {
    const today = [...limits, { max: 5_000, windowMs: HOUR }];
    const used = charge(EMPTY_STATE, today, 990, now).state;
    const { state, labels } = addCalls(used, today, 20, now, NOON + MINUTE);
    expect(labels.map(({ start_ms }) => start_ms)).toEqual([NOON + MINUTE, NOON]);
    expect(report(state, today, now).map(({ remaining }) => remaining)).toEqual([10, 3_990]);
    const later = charge(state, today, 5, now).state;
    expect(report(later, today, now).map(({ remaining }) => remaining)).toEqual([5, 3_985]);
    const next = charge(later, today, 1, NOON + MINUTE).state;
    expect(report(next, today, NOON + MINUTE).map(({ remaining }) => remaining)).toEqual([979, 3_984]);
    // A slower clock counts in the window that has begun, as without blocks.
    expect(report(next, today, now)[0]?.remaining).toBe(979);
  });

  test('a block that is not taken leaves the number of instances that count in blocks as it was', () => {
    const { entryOf } = createEntries(1, () => 0);
    const { held, upkeep } = entryOf(KEY);
    upkeep.holders = 30;
    const windows = [{ window_ms: MINUTE, start_ms: NOON }];
    held.add({ id: 'a', left: 500, limits, windows, fromMs: NOON, toMs: NOON + MINUTE, endsAtMs: 1_000 });
    const taker = { id: 'me', held, upkeep, ids: { now: () => 'b', next: () => 'c' } };
    const { taken } = takeBlocks(EMPTY_STATE, { limits, rate: 10 }, taker, { nowMs: NOON + 10_000, atMs: 0 });
    expect(taken).toEqual({ blocks: [], holders: 30 });
  });

  test('a block whose commit had an unknown outcome is lost until its windows end, and used by no call', async () => {
    const world = createWorld();
    const instance = world.instance();
    world.faults.push('unknown');
    const seen = await world.traffic(instance, 50, 5_000);
    await world.time.run(world.time.nowMs + 2_000);
    const admitted = seen.filter(({ decision }) => decision.outcome === 'admitted').length;
    expect(admitted).toBeGreaterThan(200);
    expect(world.count(MINUTE)).toBeGreaterThanOrEqual(admitted);
    expect(heldCalls(world.state(), world.time.nowMs)).toBe(0);
  });
});
