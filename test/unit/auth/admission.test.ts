// Every outcome of the limiter becomes the refusal of a request. It is returned with the decision, never thrown.
import { expect, it } from 'vitest';
import { createAdmit } from '../../../shared/auth/admission.ts';
import type { Caller } from '../../../shared/auth/keys/keys.ts';
import type { RateDecision } from '../../../shared/rate-limit/limiter.ts';

const caller: Caller = { keyId: 'k', scopes: new Set(['webhook']), limits: [{ max: 5, windowMs: 60_000 }] };
const facts = { degraded: false, limit: 5, remaining: 0, resetAtMs: 61_000 } as const;

it.each<readonly [RateDecision['outcome'], number | undefined, number, object | undefined]>([
  ['admitted', undefined, 1, undefined],
  ['revoked', undefined, 1, { reason: 'unauthorized', httpStatus: 401 }],
  ['unavailable', 900, 1, { reason: 'unavailable', httpStatus: 503, retryAfterMs: 900 }],
  ['rate_limited', 700, 5, { reason: 'rate_limited', retryable: true, retryAfterMs: 700, data: { reset: 61 } }],
  ['rate_limited', 700, 6, { reason: 'rate_limited', retryable: false, message: /larger than the limit/ }],
])('the outcome %s of the limiter becomes its refusal (wait %s, cost %d)', async (outcome, wait, cost, expected) => {
  const decision = { ...facts, outcome, ...(wait !== undefined && { retryAfterMs: wait }) };
  const admit = createAdmit({ take: async () => decision });
  const { rate, refusal } = await admit(caller, { cost, scope: null, mayDegrade: false });
  expect(rate).toBe(decision);
  if (expected === undefined) expect(refusal).toBeUndefined();
  else {
    const { message, ...fields } = expected as { message?: RegExp };
    expect(refusal).toMatchObject(fields);
    if (message !== undefined) expect(refusal?.message).toMatch(message);
  }
});

it('the scope is checked after the charge, so that a call without its scope costs a call', async () => {
  const taken: number[] = [];
  const admit = createAdmit({
    async take({ cost }) {
      taken.push(cost);
      return { ...facts, outcome: 'admitted' };
    },
  });
  const { refusal } = await admit(caller, { cost: 1, scope: 'admin', mayDegrade: false });
  expect(refusal).toMatchObject({ reason: 'forbidden', data: { missing_scope: 'admin' } });
  expect(taken).toEqual([1]);
});
