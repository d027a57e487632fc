// The tokens of turns add up by turn, session, key and day, and the daily budget holds within its bound. The gateway's
// own time is measured without that of the models.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { conversationCancel } from '../../../../shared/methods/conversation.cancel.ts';
import { conversationList } from '../../../../shared/methods/conversation.list.ts';
import { conversationStatus } from '../../../../shared/methods/conversation.status.ts';
import { createTimings } from '../../../../shared/telemetry/timings.ts';
import {
  createFixture,
  type Fixture,
  failure,
  type Instance,
  isDelta,
} from '../../../support/fixtures/turns/conversations.ts';

let fixture: Fixture;
let a: Instance;
beforeEach(async () => {
  fixture = await createFixture();
  a = await fixture.instance();
});
afterEach(() => fixture.close());

const usageOf = async (instance: Instance, session_id = 's') => {
  const status = await instance.call(conversationStatus, { session_id });
  return 'metadata' in status ? status.metadata.usage : undefined;
};

describe('usage', () => {
  it('usage adds up over the turns of a session and the sessions of a key, on all instances', async () => {
    const b = await fixture.instance();
    const one = await a.prompt('one');
    const two = await b.prompt('two');
    const three = await b.prompt('three', { session_id: 't' });
    const total = one.usage.total_tokens + two.usage.total_tokens;
    expect(await usageOf(a)).toMatchObject({ total_tokens: total });
    await Promise.all([a.services.conversations.ledger.flush(), b.services.conversations.ledger.flush()]);
    const { usage_today } = await a.call(conversationList, {});
    expect(usage_today).toMatchObject({ total_tokens: total + three.usage.total_tokens });
    expect((await a.call(conversationList, {}, { owner: 'another' })).usage_today).toMatchObject({ total_tokens: 0 });
  });

  it('usage of a turn that was cut off is estimated and marked as such; a refused one costs nothing', async () => {
    const running = a.stream(`[[chunks 400 every 5]] ${'word '.repeat(100)}`);
    await running.until(({ seq }) => seq > 20);
    await a.call(conversationCancel, { session_id: 's' });
    const usage = await usageOf(a);
    expect(usage).toMatchObject({ estimated: true });
    expect(usage?.input_tokens).toBeGreaterThan(100);
    expect(usage?.output_tokens).toBeGreaterThan(5);
    await failure(a.prompt('[[status 400]]', { session_id: 'refused' }));
    expect(await usageOf(a, 'refused')).toEqual({ input_tokens: 0, output_tokens: 0, total_tokens: 0 });
  });
});

describe('a daily budget', () => {
  it('a daily budget refuses the prompt after the one that used it up, until midnight UTC, on every instance', async () => {
    const env = { GATEWAY_DAILY_TOKENS: '10' };
    const [c, d] = [await fixture.instance(env), await fixture.instance(env)];
    await c.prompt('[[say a long enough answer to use the budget up]]');
    const error = await failure(c.prompt('more'));
    expect(error).toMatchObject({ reason: 'rate_limited', retryable: true });
    expect(error.data).toMatchObject({ detail: 'daily_tokens', limit: 10, remaining: 0 });
    await c.services.conversations.ledger.flush();
    expect(await failure(d.prompt('more'))).toMatchObject({ reason: 'rate_limited' });
    expect(await d.prompt('mine is untouched', { session_id: 'x' }, { owner: 'another' })).toBeDefined();
    fixture.clock.advance(error.retryAfterMs ?? 0);
    expect(await d.prompt('a new day')).toMatchObject({ type: 'ai_response' });
  });

  it('a daily budget does not withhold a paid answer from a caller that repeats its idempotency key', async () => {
    const c = await fixture.instance({ GATEWAY_DAILY_TOKENS: '10' });
    const params = { idempotency_key: 'k' };
    const paid = await c.prompt('[[say a long enough answer to use the budget up]]', params);
    expect(await c.prompt('[[say a long enough answer to use the budget up]]', params)).toEqual(paid);
    expect(await failure(c.prompt('more', { idempotency_key: 'l' }))).toMatchObject({ reason: 'rate_limited' });
    expect(fixture.provider.calls).toBe(1);
  });

  it('a daily budget that a clock 400 days ahead has used up is there once it is right; no refusal lasts longer than a day', async () => {
    const c = await fixture.instance({ GATEWAY_DAILY_TOKENS: '10' });
    const aheadMs = 400 * 86_400_000;
    fixture.clock.step(aheadMs);
    await c.prompt('[[say a long enough answer to use the budget up]]');
    expect((await failure(c.prompt('more'))).retryAfterMs).toBeLessThanOrEqual(86_400_000);
    await c.services.conversations.ledger.flush();
    fixture.clock.step(-aheadMs);
    await c.prompt('[[say a long enough answer to use the budget up]]', { session_id: 't' });
    expect((await failure(c.prompt('more'))).retryAfterMs).toBeLessThanOrEqual(86_400_000);
  });

  it('a daily budget is overshot by at most the turns in flight', async () => {
    const c = await fixture.instance({ GATEWAY_DAILY_TOKENS: '10' });
    const prompts = Array.from({ length: 5 }, (_, n) =>
      c.prompt('[[delay 50]] [[say twelve tokens or more of an answer]]', { session_id: `p${n}` }),
    );
    await Promise.all(prompts);
    expect(fixture.provider.calls).toBe(5);
    for (let n = 0; n < 5; n++) expect(await failure(c.prompt('more'))).toMatchObject({ reason: 'rate_limited' });
    expect(fixture.provider.calls).toBe(5);
  });

  it('a daily budget costs a prompt no commit of its own, and no read where there is none', async () => {
    // No heartbeat falls into the test: on a busy machine one that meets a turn's end reads its document.
    const c = await fixture.instance({ GATEWAY_LEASE_MS: '600000', GATEWAY_HEARTBEAT_MS: '300000' });
    await c.prompt('warm up');
    await c.services.conversations.ledger.flush();
    c.counted.reset();
    await Promise.all(Array.from({ length: 10 }, (_, n) => c.prompt('hi', { session_id: `c${n}` })));
    await c.services.conversations.ledger.flush();
    // Per prompt: a read of a session that this instance has not cached, the admission, and the end with its record.
    const ofTurns = [...c.counted.byCollection].filter(([name]) => name !== 'usage' && name !== 'storage');
    const sum = (key: 'reads' | 'writes'): number => ofTurns.reduce((total, [, counts]) => total + counts[key], 0);
    expect({ reads: sum('reads'), writes: sum('writes') }).toEqual({ reads: 10, writes: 10 * 3 });
    expect(c.counted.operations.locks).toBe(0);
  });

  it('the usage of turns that end together is one write', async () => {
    const { ledger } = a.services.conversations;
    for (let n = 0; n < 10; n++) ledger.add('default', { input_tokens: 1, output_tokens: 1, total_tokens: 2 });
    await ledger.flush();
    expect(a.counted.byCollection.get('usage')?.writes).toBe(1);
    expect(await ledger.today('default')).toMatchObject({ turns: 10, total_tokens: 20 });
  });
});

describe('a warm session', () => {
  it('a warm session costs no read, one write to be admitted and two in the one commit that ends the turn', async () => {
    await a.prompt('warm up');
    await a.services.conversations.ledger.flush();
    a.counted.reset();
    await a.prompt('hi');
    expect(a.counted.operations).toMatchObject({ reads: 0, commits: 3, locks: 0 });
  });

  it('a warm session costs no read with an idempotency key either, nor does a new session', async () => {
    await a.prompt('warm up');
    await a.services.conversations.ledger.flush();
    a.counted.reset();
    await a.prompt('hi', { idempotency_key: 'k' });
    await a.prompt('hi', { session_id: undefined, idempotency_key: 'l' });
    expect(a.counted.operations).toMatchObject({ reads: 0, commits: 8, locks: 0 });
  });
});

describe('the meter', () => {
  it('the measured overhead leaves out the time in which any model was at work, once', async () => {
    const now = performance.now();
    const began = now - 100;
    const timings = createTimings(began);
    timings.add({ phase: 'limit', startMs: now - 100, endMs: now - 98 });
    timings.add({ phase: 'model', startMs: now - 90, endMs: now - 40 });
    timings.add({ phase: 'model', startMs: now - 80, endMs: now - 30 });
    expect(timings.phases()).toEqual({ limit: 2, model: 100 });
    const overheadMs = timings.overheadMs();
    // The models took 60 of all that has passed until now.
    expect(overheadMs).toBeGreaterThanOrEqual(40);
    expect(overheadMs).toBeLessThanOrEqual(performance.now() - began - 60 + 0.001);
  });
});

describe("a duplicate's timings", () => {
  it('the timings of a duplicate leave out the time of the model since its own start only', () => {
    const now = performance.now();
    const timings = createTimings(now - 10);
    timings.add({ phase: 'model', startMs: now - 300, endMs: now - 2 });
    expect(timings.overheadMs()).toBeGreaterThanOrEqual(2);
  });
});

describe('without its watch', () => {
  it('the owner of a turn finds a cancel by its heartbeat alone', async () => {
    // The lease outlasts the test, so only the heartbeat can find the cancel.
    const unwatched = await fixture.instance({ GATEWAY_HEARTBEAT_MS: '300', GATEWAY_LEASE_MS: '600000' });
    unwatched.line.watch = () => () => {};
    const running = unwatched.stream('[[hang]]');
    await running.until(isDelta);
    const requested = fixture.provider.requests.at(-1);
    await a.call(conversationCancel, { session_id: 's' });
    expect(await requested?.done).toMatchObject({ by: 'client' });
    expect(await failure(running.answer)).toMatchObject({ reason: 'cancelled' });
  });
});
