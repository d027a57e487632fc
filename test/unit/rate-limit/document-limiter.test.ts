// The limiter over a Store is exact for concurrent calls and several instances, at a bounded cost, and fails closed.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Limit } from '../../../shared/config/values/limits.ts';
import { createDocumentLimiter } from '../../../shared/rate-limit/document-limiter.ts';
import type { Limiter, RateDecision, TakeRequest } from '../../../shared/rate-limit/limiter.ts';
import { setRevoked, toLimitRef } from '../../../shared/rate-limit/windows/limit-document.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded/embedded.ts';
import { Conflict, type Store } from '../../../shared/store/store.ts';
import { type Counted, countOperations, createTestClock, cutOff } from '../../support/fixtures/limiter/rate-limit.ts';

const MINUTE = 60_000;
const LIMITS: readonly Limit[] = [
  { max: 100, windowMs: MINUTE },
  { max: 1_000, windowMs: 60 * MINUTE },
];

let clock: ReturnType<typeof createTestClock>;
let store: Counted;
let limiter: Limiter;

beforeEach(() => {
  clock = createTestClock();
  store = countOperations(createEmbeddedStore({ path: ':memory:', clock }));
  limiter = createDocumentLimiter({ store, clock });
});
afterEach(() => store.close());

function call(options: Partial<TakeRequest> = {}, on = limiter): Promise<RateDecision> {
  return on.take({ keyId: 'default', limits: LIMITS, cost: 1, mayDegrade: false, ...options });
}

function burst(count: number, on = limiter): Promise<RateDecision[]> {
  return Promise.all(Array.from({ length: count }, () => call({}, on)));
}

function tally(decisions: readonly RateDecision[], outcome: RateDecision['outcome']): number {
  return decisions.filter((decision) => decision.outcome === outcome).length;
}

describe('exactness', () => {
  test('exactly the limit of many concurrent calls is admitted, in one read and one write', async () => {
    const decisions = await burst(300);
    expect(tally(decisions, 'admitted')).toBe(100);
    expect(tally(decisions, 'rate_limited')).toBe(200);
    expect(store.operations).toEqual({ reads: 1, commits: 1, lost: 0, locks: 0 });
    expect(decisions[99]).toMatchObject({ outcome: 'admitted', limit: 100, remaining: 0 });
  });

  test('exactly the limit is admitted over several instances on one store', async () => {
    const instances = Array.from({ length: 4 }, () => createDocumentLimiter({ store, clock }));
    const decisions = (await Promise.all(instances.map((instance) => burst(60, instance)))).flat();
    expect(tally(decisions, 'admitted')).toBe(100);
    expect(tally(decisions, 'rate_limited')).toBe(140);
  });

  test('joined calls are decided one by one: a batch that does not fit leaves room for the smaller one behind it', async () => {
    const decisions = await Promise.all([call({ cost: 99 }), call({ cost: 2 }), call({ cost: 1 })]);
    expect(decisions.map(({ outcome }) => outcome)).toEqual(['admitted', 'rate_limited', 'admitted']);
  });

  test('a reset window counts from zero, and the longer window is kept', async () => {
    await burst(100);
    clock.advance(MINUTE);
    expect(await call()).toMatchObject({ outcome: 'admitted', limit: 100, remaining: 99 });
    const { data } = (await store.get([toLimitRef('default')]))[0] ?? {};
    expect(data).toEqual({
      windows: [
        { window_ms: MINUTE, start_ms: clock.now(), count: 1, since_ms: clock.now() - MINUTE },
        { window_ms: 60 * MINUTE, start_ms: clock.now() - MINUTE, count: 101 },
      ],
      revoked: false,
    });
  });

  test('a clock that was 400 days ahead for four calls has refused no call and cost no key a count once it is right', async () => {
    const limits = [
      { max: 5, windowMs: MINUTE },
      { max: 20, windowMs: 24 * 60 * MINUTE },
    ];
    const other = createDocumentLimiter({ store, clock });
    for (let calls = 0; calls < 3; calls++) await call({ limits });
    const aheadMs = 400 * 24 * 60 * MINUTE;
    clock.step(aheadMs);
    for (const remaining of [4, 3, 2, 1]) expect(await call({ limits }, other)).toMatchObject({ remaining });
    clock.step(-aheadMs);
    for (const instance of [limiter, other]) {
      expect(await call({ limits }, instance)).toMatchObject({ outcome: 'admitted', limit: 5 });
    }
    const refused = await call({ limits }, other);
    expect(refused).toMatchObject({ outcome: 'rate_limited', limit: 5, remaining: 0 });
    expect(refused.retryAfterMs).toBeLessThanOrEqual(MINUTE);
    clock.advance(MINUTE);
    // 5 of the day are used, not 9 and not 0.
    const [day] = (await Promise.all(Array.from({ length: 5 }, () => call({ limits })))).slice(-1);
    expect(day).toMatchObject({ outcome: 'admitted', remaining: 0, limit: 5 });
    clock.advance(MINUTE);
    await call({ limits: [{ max: 20, windowMs: 24 * 60 * MINUTE }] });
    expect(await call({ limits: [{ max: 20, windowMs: 24 * 60 * MINUTE }] })).toMatchObject({ remaining: 8 });
  });

  test('the limiter stays exact when keys are evicted between calls', async () => {
    const small = createDocumentLimiter({ store, clock, keysMax: 2 });
    for (let round = 0; round < 3; round++) {
      for (const keyId of ['a', 'b', 'c', 'd']) {
        expect(await call({ keyId, limits: [{ max: 2, windowMs: MINUTE }] }, small)).toMatchObject({
          outcome: round < 2 ? 'admitted' : 'rate_limited',
        });
      }
    }
  });

  test('any text can be a key id', async () => {
    const outcomes = await Promise.all(['', '../x', 'ключ', 'x'.repeat(2_000)].map((keyId) => call({ keyId })));
    expect(tally(outcomes, 'admitted')).toBe(4);
  });
});

describe('cost', () => {
  test('a warm call costs one write and no read', async () => {
    await call();
    store.reset();
    for (let calls = 0; calls < 20; calls++) await call();
    expect(store.operations).toEqual({ reads: 0, commits: 20, lost: 0, locks: 0 });
  });

  test('refused calls cost nothing until the window resets', async () => {
    await burst(101);
    store.reset();
    expect(tally(await burst(50), 'rate_limited')).toBe(50);
    clock.advance(MINUTE - 1);
    expect(await call()).toMatchObject({ outcome: 'rate_limited', retryAfterMs: 1 });
    expect(store.total()).toBe(0);
    clock.advance(1);
    expect(await call()).toMatchObject({ outcome: 'admitted' });
  });

  test('a call costs two operations at most when two instances take turns on a key', async () => {
    const other = createDocumentLimiter({ store, clock });
    for (let calls = 0; calls < 44; calls++) {
      // The first instance that writes after the other one has an outdated version, so it loses one commit.
      if (calls === 4) store.reset();
      clock.advance(250);
      expect(await call({}, calls % 2 === 0 ? limiter : other)).toMatchObject({ outcome: 'admitted' });
    }
    expect(store.total()).toBeLessThanOrEqual(80);
  });

  test('a call costs one operation again when the other instance stops calling', async () => {
    const other = createDocumentLimiter({ store, clock });
    for (let calls = 0; calls < 10; calls++) {
      clock.advance(250);
      await call({}, calls % 2 === 0 ? limiter : other);
    }
    for (let calls = 0; calls < 20; calls++) {
      if (calls === 10) store.reset();
      clock.advance(250);
      await call();
    }
    expect(store.total()).toBe(10);
  });
});

describe('a commit that is lost to another instance', () => {
  test('a commit that is lost to another instance is retried with the calls that have arrived since', async () => {
    let late: Promise<RateDecision> | undefined;
    const contended: Store = {
      ...store,
      async commit(writes, options) {
        if (late !== undefined) return store.commit(writes, options);
        late = call({}, other);
        throw new Conflict();
      },
    };
    const other = createDocumentLimiter({ store: contended, clock });
    const decisions = [await call({}, other), await late];
    expect(decisions.map((decision) => decision?.remaining)).toEqual([99, 98]);
    expect(store.operations).toEqual({ reads: 2, commits: 1, lost: 0, locks: 0 });
  });
});

describe('the deny cache', () => {
  test('the deny cache does not refuse a smaller batch that fits', async () => {
    await call({ cost: 98 });
    expect(await call({ cost: 3 })).toMatchObject({ outcome: 'rate_limited', remaining: 2 });
    expect(await call({ cost: 2 })).toMatchObject({ outcome: 'admitted', remaining: 0 });
  });

  test('a raised limit takes effect at once in spite of the deny cache', async () => {
    await burst(101);
    expect(await call({ limits: [{ max: 101, windowMs: MINUTE }] })).toMatchObject({
      outcome: 'admitted',
      remaining: 0,
    });
  });

  test('the deny cache finds within a minute that an operator has reset the document', async () => {
    const limits = [{ max: 1, windowMs: 60 * MINUTE }];
    await call({ limits });
    await call({ limits });
    await store.commit([{ ref: toLimitRef('default'), delete: true }]);
    expect(await call({ limits })).toMatchObject({ outcome: 'rate_limited' });
    clock.advance(MINUTE);
    expect(await call({ limits })).toMatchObject({ outcome: 'admitted' });
  });
});

describe('revocation', () => {
  test('a revocation takes effect at the next call on an instance that has the key in memory, and keeps the counts', async () => {
    await burst(10);
    await setRevoked(store, 'default', true);
    expect(await call()).toMatchObject({ outcome: 'revoked', remaining: 0 });
    store.reset();
    expect(tally(await burst(20), 'revoked')).toBe(20);
    expect(store.total()).toBe(0);
    await setRevoked(store, 'default', false);
    clock.advance(5_000);
    expect(await call()).toMatchObject({ outcome: 'admitted', remaining: 89 });
  });

  test('a revocation holds after every window has ended', async () => {
    await setRevoked(store, 'default', true);
    clock.advance(400 * 24 * 60 * MINUTE);
    expect(await call()).toMatchObject({ outcome: 'revoked' });
  });

  test('the revocation of a key without remaining calls takes effect within a minute', async () => {
    await burst(101);
    await setRevoked(store, 'default', true);
    expect(await call()).toMatchObject({ outcome: 'rate_limited' });
    clock.advance(MINUTE);
    expect(await call()).toMatchObject({ outcome: 'revoked' });
  });
});

describe('callers that leave', () => {
  test('callers that leave are not charged when they leave before the decision', async () => {
    const leaving = new AbortController();
    const gone = call({ cost: 40, signal: leaving.signal });
    const staying = call();
    leaving.abort(new Error('client went away'));
    await expect(gone).rejects.toThrow('client went away');
    expect(await staying).toMatchObject({ outcome: 'admitted', remaining: 99 });
  });

  test('a call whose signal has aborted before rejects at once', async () => {
    await expect(call({ signal: AbortSignal.abort(new Error('gone')) })).rejects.toThrow('gone');
    expect(store.total()).toBe(0);
  });
});

describe('bounds', () => {
  test('calls are unavailable, not rate_limited, when too many wait', async () => {
    const small = createDocumentLimiter({ store, clock, waitingPerKeyMax: 3, waitingMax: 5 });
    const one = await burst(5, small);
    expect(tally(one, 'admitted')).toBe(3);
    expect(tally(one, 'unavailable')).toBe(2);
    const many = await Promise.all(['a', 'b', 'c', 'd', 'e', 'f'].map((keyId) => call({ keyId }, small)));
    expect(tally(many, 'unavailable')).toBe(1);
    expect(await call({}, small)).toMatchObject({ outcome: 'admitted' });
  });

  test('a request that makes no sense is rejected', async () => {
    await expect(call({ cost: -1 })).rejects.toThrow(RangeError);
    await expect(call({ limits: [] })).rejects.toThrow(RangeError);
  });
});

describe('failing closed', () => {
  test('no call is admitted whose commit was not confirmed, although the store may have counted it', async () => {
    const line = cutOff(store);
    const instance = createDocumentLimiter({ store: line, clock });
    await call({}, instance);
    line.state = 'unconfirmed';
    expect(tally(await burst(10, instance), 'unavailable')).toBe(10);
    line.state = 'up';
    const decisions = await burst(200, instance);
    expect(tally(decisions, 'admitted')).toBe(89);
  });

  test('a document that cannot be read makes its key unavailable, and other keys are served meanwhile', async () => {
    await store.commit([{ ref: toLimitRef('default'), data: { windows: 'many', revoked: false } }]);
    for (let calls = 0; calls < 3; calls++) expect(await call()).toMatchObject({ outcome: 'unavailable' });
    expect(await call({ keyId: 'other' })).toMatchObject({ outcome: 'admitted' });
  });
});
