// A prompt that finds its session busy is rejected, queued or let in, as it requests. Every place in a queue ends, also
// when its instance fails.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { QUEUE_ALIVE_MS } from '../../../../shared/conversations/owner-watch.ts';
import { QUEUE_MAX } from '../../../../shared/conversations/turns/lease.ts';
import { conversationCancel } from '../../../../shared/methods/conversation.cancel.ts';
import { conversationHistory } from '../../../../shared/methods/conversation.history.ts';
import { conversationStatus } from '../../../../shared/methods/conversation.status.ts';
import {
  createFixture,
  type Fixture,
  failure,
  type Instance,
  isDelta,
  isTerminal,
} from '../../../support/fixtures/turns/conversations.ts';

let fixture: Fixture;
let a: Instance;
beforeEach(async () => {
  fixture = await createFixture({ env: { GATEWAY_HEARTBEAT_MS: '500' } });
  a = await fixture.instance();
});
afterEach(() => fixture.close());

/**
 * A turn that runs until it is stopped. Prompts that follow it without an answer between them reach the model as one
 * message.
 */
async function occupy() {
  fixture.provider.behave(({ prompt }) => (prompt === 'occupy' ? { hang: 'stream' } : { text: `answer to ${prompt}` }));
  const running = a.stream('occupy');
  await running.until(isDelta);
  return running;
}

async function untilQueued(count: number): Promise<void> {
  for (;;) {
    const status = await a.call(conversationStatus, { session_id: 's' });
    if ('queued' in status ? status.queued === count : count === 0) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const LOST = { on_busy: 'queue', idempotency_key: 'lost' } as const;

/**
 * Queues the prompt `lost` on `gone` behind a running turn, separates that instance from the store by `separate`, lets
 * its place expire and the running turn end, and runs the next prompt. Returns the call of the lost prompt.
 */
async function dropPlaceOf(gone: Instance, separate: () => void): Promise<{ readonly lost: Promise<unknown> }> {
  const gate = Promise.withResolvers<void>();
  fixture.provider.behave(({ prompt }) => ({
    text: 'answer',
    gate: () => (prompt === 'first' ? gate.promise : Promise.resolve()),
  }));
  const requested = fixture.provider.next();
  const first = a.prompt('first');
  await requested;
  const lost = gone.prompt('lost', LOST);
  lost.catch(() => {});
  await untilQueued(1);
  separate();
  fixture.clock.advance(QUEUE_ALIVE_MS + 1);
  gate.resolve();
  await first;
  expect(await a.prompt('next', { on_busy: 'queue' })).toMatchObject({ content: 'answer' });
  return { lost };
}

describe('a busy session', () => {
  it('a session runs exactly one of 200 parallel prompts and refuses the other 199', async () => {
    const calls = Array.from({ length: 200 }, () => a.prompt('[[chunks 3 every 50]]'));
    const settled = await Promise.allSettled(calls);
    const reasons = settled.map((one) => (one.status === 'fulfilled' ? 'ran' : one.reason.reason));
    expect(reasons.filter((reason) => reason === 'ran')).toHaveLength(1);
    expect(reasons.filter((reason) => reason === 'session_busy')).toHaveLength(199);
    expect(fixture.provider.calls).toBe(1);
    expect((await a.call(conversationHistory, { session_id: 's' })).messages).toHaveLength(2);
  });

  it('a busy session queues 8 prompts and refuses the ninth', async () => {
    await occupy();
    const queued = Array.from({ length: QUEUE_MAX }, (_, n) => failure(a.prompt(`q${n}`, { on_busy: 'queue' })));
    await untilQueued(QUEUE_MAX);
    for (const on_busy of ['queue', 'interrupt'] as const) {
      expect(await failure(a.prompt('one more', { on_busy }))).toMatchObject({ reason: 'queue_full', retryable: true });
    }
    expect(await failure(a.prompt('me'))).toMatchObject({ reason: 'session_busy' });
    await a.call(conversationCancel, { session_id: 's' });
    const ends = await Promise.all(queued);
    expect(new Set(ends.map(({ reason }) => reason))).toEqual(new Set(['cancelled']));
    expect(fixture.provider.calls).toBe(1);
  });

  it('the next prompt in the queue runs when the running turn fails', async () => {
    const gate = Promise.withResolvers<void>();
    fixture.provider.behave(({ prompt }) =>
      prompt === 'bad' ? { cut: 'end', gate: () => gate.promise } : { text: prompt },
    );
    const requested = fixture.provider.next();
    const bad = a.prompt('bad');
    await requested;
    const next = a.prompt('good', { on_busy: 'queue' });
    await untilQueued(1);
    gate.resolve();
    expect(await failure(bad)).toMatchObject({ reason: 'upstream_error' });
    expect(await next).toMatchObject({ content: 'good' });
  });

  it('a queued prompt whose instance is cut off from the store fails and frees its key, and the next one runs', async () => {
    const gone = await fixture.instance();
    const { lost } = await dropPlaceOf(gone, () => {
      gone.line.state = 'down';
    });
    expect(await failure(lost)).toMatchObject({ reason: 'unavailable' });
    gone.line.state = 'up';
    expect(await a.prompt('lost', LOST)).toMatchObject({ content: 'answer' });
  });

  it('a queued prompt whose instance is frozen is cancelled and frees its key, and the next one runs', async () => {
    const gone = await fixture.instance();
    const resumed = Promise.withResolvers<void>();
    const { lost } = await dropPlaceOf(gone, () => {
      const { get, commit } = gone.line;
      gone.line.get = (refs, options) => resumed.promise.then(() => get(refs, options));
      gone.line.commit = (writes, options) => resumed.promise.then(() => commit(writes, options));
    });
    resumed.resolve();
    expect(await failure(lost)).toMatchObject({ reason: 'cancelled' });
    expect(await a.prompt('lost', LOST)).toMatchObject({ content: 'answer' });
  });

  it('an instance that drains gives up its places in the queue', async () => {
    const other = await fixture.instance();
    await occupy();
    const waiting = other.prompt('waiting', { on_busy: 'queue', idempotency_key: 'k' });
    waiting.catch(() => {});
    await untilQueued(1);
    await other.services.conversations.drain(0);
    expect(await failure(waiting)).toMatchObject({ reason: 'unavailable', retryable: true });
    await untilQueued(0);
    expect(await failure(other.prompt('too late', { session_id: 'other' }))).toMatchObject({ reason: 'unavailable' });
    await a.call(conversationCancel, { session_id: 's' });
    expect(await a.prompt('waiting', { on_busy: 'queue', idempotency_key: 'k' })).toMatchObject({
      type: 'ai_response',
    });
  });

  it('a busy session runs the last of several interrupts first, and the others after it', async () => {
    const running = await occupy();
    const gate = Promise.withResolvers<void>();
    fixture.provider.behave(({ prompt }) => ({ text: prompt, gate: () => gate.promise }));
    const requested = fixture.provider.next();
    const first = a.prompt('first', { on_busy: 'interrupt' });
    expect((await requested).prompt).toBe('first');
    expect(running.events.filter(isTerminal)).toMatchObject([{ event: { TurnAborted: { reason: 'replaced' } } }]);
    const second = a.prompt('second', { on_busy: 'interrupt' });
    expect(await failure(first)).toMatchObject({ reason: 'cancelled' });
    gate.resolve();
    expect((await second).content).toMatch(/second$/);
  });

  it('an interrupting prompt runs at once in an idle session', async () => {
    expect(await a.prompt('hello', { on_busy: 'interrupt' })).toMatchObject({ content: 'You said: hello' });
  });
});
