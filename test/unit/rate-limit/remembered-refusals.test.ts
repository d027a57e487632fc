// A refusal that another instance has decided is remembered in front of the limiter, for as long as it is valid.
import { describe, expect, it } from 'vitest';
import type { RateDecision, TakeRequest } from '../../../shared/rate-limit/limiter.ts';
import { createRememberedRefusals } from '../../../shared/rate-limit/remembered-refusals.ts';

const LIMITS = [{ max: 2, windowMs: 86_400_000 }];
const REQUEST = { keyId: 'key', limits: LIMITS };
const ADMITTED: RateDecision = { outcome: 'admitted', degraded: false, limit: 2, remaining: 1, resetAtMs: 90_000 };
const REFUSED: RateDecision = { ...ADMITTED, outcome: 'rate_limited', remaining: 0, retryAfterMs: 30_000 };

function setup() {
  let nowMs = 0;
  const taken: TakeRequest[] = [];
  const clock = { now: () => nowMs, monotonic: () => nowMs };
  const refusals = createRememberedRefusals(
    {
      async take(request) {
        taken.push(request);
        return ADMITTED;
      },
    },
    clock,
  );
  return {
    ...refusals,
    taken,
    pass: (ms: number) => {
      nowMs += ms;
    },
    take: (changes: Partial<TakeRequest> = {}) =>
      refusals.limiter.take({ ...REQUEST, cost: 1, mayDegrade: false, ...changes }),
  };
}

describe('a remembered refusal', () => {
  it('a remembered refusal refuses the calls of its key without the limiter, with the remaining time', async () => {
    const { remember, isRefused, take, taken, pass } = setup();
    expect(isRefused(REQUEST)).toBe(false);
    remember(REQUEST, REFUSED);
    pass(10_000);
    expect(isRefused(REQUEST)).toBe(true);
    expect(await take()).toEqual({ ...REFUSED, retryAfterMs: 20_000 });
    expect(await take({ cost: 3 })).toMatchObject({ outcome: 'rate_limited' });
    expect(taken).toEqual([]);
  });

  it('a remembered refusal does not refuse another key, a free call, or the key under other limits', async () => {
    const { remember, take, taken } = setup();
    remember(REQUEST, REFUSED);
    expect(await take({ keyId: 'other' })).toEqual(ADMITTED);
    expect(await take({ cost: 0 })).toEqual(ADMITTED);
    expect(await take({ limits: [{ max: 3, windowMs: 86_400_000 }] })).toEqual(ADMITTED);
    expect(taken).toHaveLength(3);
  });

  it('a remembered refusal ends with its window', async () => {
    const { remember, take, pass, isRefused } = setup();
    remember(REQUEST, REFUSED);
    pass(30_000);
    expect(isRefused(REQUEST)).toBe(false);
    expect(await take()).toEqual(ADMITTED);
  });

  it('a remembered refusal is decided again after a minute, so that a reset takes effect', async () => {
    const { remember, take, pass } = setup();
    remember(REQUEST, { ...REFUSED, retryAfterMs: 86_000_000 });
    pass(59_999);
    expect(await take()).toMatchObject({ outcome: 'rate_limited' });
    pass(1);
    expect(await take()).toEqual(ADMITTED);
  });

  it('a remembered refusal of a revoked key refuses free calls too, and is decided again after five seconds', async () => {
    const { remember, take, pass } = setup();
    remember(REQUEST, { ...ADMITTED, outcome: 'revoked' });
    expect(await take({ cost: 0 })).toMatchObject({ outcome: 'revoked' });
    pass(5_000);
    expect(await take({ cost: 0 })).toEqual(ADMITTED);
  });
});
