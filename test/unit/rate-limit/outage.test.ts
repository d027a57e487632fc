// While the store is down, the limiter admits a bounded number of cheap reads and refuses everything else; it is exact
// again afterwards.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Limit } from '../../../shared/config/values/limits.ts';
import { systemTimers } from '../../../shared/rate-limit/counting/timers.ts';
import { createDocumentLimiter } from '../../../shared/rate-limit/document-limiter.ts';
import type { Limiter, RateDecision, TakeRequest } from '../../../shared/rate-limit/limiter.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded/embedded.ts';
import {
  type Counted,
  countOperations,
  createTestClock,
  cutOff,
  type Line,
} from '../../support/fixtures/limiter/rate-limit.ts';

const LIMITS: readonly Limit[] = [{ max: 100, windowMs: 60_000 }];

let clock: ReturnType<typeof createTestClock>;
let line: Line;
let store: Counted;
let limiter: Limiter;

beforeEach(() => {
  clock = createTestClock();
  line = cutOff(createEmbeddedStore({ path: ':memory:', clock }));
  store = countOperations(line);
  limiter = createDocumentLimiter({ store, clock });
});
afterEach(() => store.close());

const cheap = (options: Partial<TakeRequest> = {}): Promise<RateDecision> =>
  limiter.take({ keyId: 'default', limits: LIMITS, cost: 1, mayDegrade: true, ...options });
const costly = (): Promise<RateDecision> => cheap({ mayDegrade: false });

async function breakDown(): Promise<void> {
  line.state = 'down';
  await costly();
  await costly();
}

describe('while the store is down', () => {
  test('calls that cost money are unavailable with Retry-After from the first one on', async () => {
    line.state = 'down';
    for (let calls = 0; calls < 5; calls++) {
      const decision = await costly();
      expect(decision).toMatchObject({ outcome: 'unavailable', degraded: false, limit: 100, remaining: 0 });
      expect(decision.retryAfterMs).toBeGreaterThanOrEqual(1_000);
      expect(decision.resetAtMs).toBeGreaterThan(clock.now());
    }
  });

  test('cheap reads pass the bucket, ten per key in ten seconds, and are unavailable beyond it: never rate_limited', async () => {
    await breakDown();
    for (let window = 0; window < 2; window++) {
      const decisions = await Promise.all(Array.from({ length: 15 }, () => cheap()));
      const admitted = decisions.filter(({ outcome }) => outcome === 'admitted');
      expect(admitted.map(({ degraded, limit, remaining }) => [degraded, limit, remaining])).toEqual(
        [9, 8, 7, 6, 5, 4, 3, 2, 1, 0].map((remaining) => [true, 10, remaining]),
      );
      expect(decisions.filter(({ outcome }) => outcome === 'unavailable')).toHaveLength(5);
      clock.advance(10_000);
    }
    expect(await cheap({ keyId: 'other' })).toMatchObject({ outcome: 'admitted', degraded: true, remaining: 9 });
  });

  test('the bucket is never larger than the limit of the key, and admits all calls of a batch or none', async () => {
    await breakDown();
    const limits = [{ max: 3, windowMs: 60_000 }];
    expect(await cheap({ limits, cost: 4 })).toMatchObject({ outcome: 'unavailable' });
    expect(await cheap({ limits, cost: 3 })).toMatchObject({
      outcome: 'admitted',
      degraded: true,
      limit: 3,
      remaining: 0,
    });
  });

  test('cheap reads are unavailable too once the outage has lasted a minute', async () => {
    await breakDown();
    clock.advance(59_999);
    expect(await cheap()).toMatchObject({ outcome: 'admitted', degraded: true });
    clock.advance(1);
    expect(await cheap()).toMatchObject({ outcome: 'unavailable' });
  });

  test('the store is not hammered: one probe at a time, none between', async () => {
    await breakDown();
    store.reset();
    await Promise.all(Array.from({ length: 500 }, (_, key) => cheap({ keyId: `key-${key}` })));
    expect(store.total()).toBe(0);
    for (let probe = 0; probe < 5; probe++) {
      clock.advance(2_000);
      store.reset();
      await Promise.all(Array.from({ length: 500 }, (_, key) => cheap({ keyId: `key-${key}` })));
      expect(store.total()).toBe(1);
    }
  });

  test('the pause before a probe is drawn from the source of the limiter, so that a seed repeats a run', async () => {
    limiter = createDocumentLimiter({ store, clock, timers: { ...systemTimers, random: () => 0 } });
    await breakDown();
    store.reset();
    clock.advance(124);
    await costly();
    expect(store.total()).toBe(0);
    clock.advance(1);
    await costly();
    expect(store.total()).toBe(1);
  });

  test('a refusal known from before is still a refusal', async () => {
    await Promise.all(Array.from({ length: 101 }, () => costly()));
    line.state = 'down';
    await cheap({ keyId: 'other' });
    await cheap({ keyId: 'other' });
    expect(await cheap()).toMatchObject({ outcome: 'rate_limited', degraded: false });
  });
});

describe('when the store is back', () => {
  test('the first probe ends the outage for every key, and the calls counted before still count', async () => {
    await Promise.all(Array.from({ length: 60 }, () => costly()));
    await breakDown();
    clock.advance(2_000);
    line.state = 'up';
    expect(await costly()).toMatchObject({ outcome: 'admitted', degraded: false, remaining: 39 });
    const decisions = await Promise.all(Array.from({ length: 50 }, () => costly()));
    expect(decisions.filter(({ outcome }) => outcome === 'admitted')).toHaveLength(39);
  });

  test('a call after a single failure still uses the store', async () => {
    await costly();
    line.state = 'down';
    expect(await costly()).toMatchObject({ outcome: 'unavailable' });
    line.state = 'up';
    expect(await costly()).toMatchObject({ outcome: 'admitted', remaining: 98 });
  });

  test('a later outage has its own minute', async () => {
    await breakDown();
    clock.advance(90_000);
    line.state = 'up';
    await costly();
    await breakDown();
    expect(await cheap()).toMatchObject({ outcome: 'admitted', degraded: true });
  });
});
