// An idempotency key identifies one turn: duplicates get its answer, on any instance and at any time; after a failed
// turn the key can be used again.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { conversationCancel } from '../../../../shared/methods/conversation.cancel.ts';
import { conversationDelete } from '../../../../shared/methods/conversation.delete.ts';
import { conversationHistory } from '../../../../shared/methods/conversation.history.ts';
import { conversationList } from '../../../../shared/methods/conversation.list.ts';
import { createEmbeddedStore } from '../../../../shared/store/embedded/embedded.ts';
import {
  createFixture,
  type Fixture,
  failure,
  type Instance,
  isDelta,
} from '../../../support/fixtures/turns/conversations.ts';

const DAY_MS = 86_400_000;
const idempotency_key = 'order-66';

let fixture: Fixture;
let a: Instance;
beforeEach(async () => {
  fixture = await createFixture();
  a = await fixture.instance();
});
afterEach(() => fixture.close());

describe('an idempotency key', () => {
  it('an idempotency key makes 50 parallel prompts one model call and 50 equal answers, without a session id too', async () => {
    for (const params of [
      { session_id: 's', idempotency_key: 'k1' },
      { session_id: undefined, idempotency_key: 'k2' },
    ]) {
      const before = fixture.provider.calls;
      const answers = await Promise.all(Array.from({ length: 50 }, () => a.prompt('[[chunks 4 every 10]]', params)));
      expect(fixture.provider.calls - before).toBe(1);
      expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
    }
  });

  it('an idempotency key is the header’s when the params have none', async () => {
    const requestMetadata = { idempotencyKey: 'from-header' };
    const one = await a.prompt('hi', {}, { requestMetadata });
    const two = await a.prompt('hi', {}, { requestMetadata });
    expect(two).toEqual(one);
    expect(fixture.provider.calls).toBe(1);
    const tooLong = { idempotencyKey: 'x'.repeat(256) };
    expect(await failure(a.prompt('hi', {}, { requestMetadata: tooLong }))).toMatchObject({ reason: 'invalid_params' });
  });

  it('an idempotency key that is used with any other param is refused', async () => {
    await a.prompt('hi', { idempotency_key });
    for (const other of [
      { session_id: 't' },
      { model: 'offline/echo' },
      { instructions: 'be brief' },
      { on_busy: 'queue' as const },
    ]) {
      const error = await failure(a.prompt('hi', { idempotency_key, ...other }));
      expect(error).toMatchObject({ reason: 'invalid_params', data: { issues: [{ path: 'idempotency_key' }] } });
    }
    expect(fixture.provider.calls).toBe(1);
  });

  it('an idempotency key of one API key is unused for another one', async () => {
    const mine = await a.prompt('hi', { idempotency_key });
    const theirs = await a.prompt('hi', { idempotency_key }, { owner: 'another' });
    expect(theirs.turn_id).not.toBe(mine.turn_id);
    expect(fixture.provider.calls).toBe(2);
  });

  it('an idempotency key is free again when the turn failed, and still answers with a cancelled turn', async () => {
    expect(await failure(a.prompt('[[cut]]', { idempotency_key: 'f' }))).toMatchObject({ reason: 'upstream_error' });
    fixture.provider.behave(() => ({ text: 'now it works' }));
    expect(await a.prompt('[[cut]]', { idempotency_key: 'f' })).toMatchObject({ content: 'now it works' });
    fixture.provider.behave();
    const running = a.stream('[[hang]]', { session_id: 'c', idempotency_key: 'c' });
    await running.until(isDelta);
    await a.call(conversationCancel, { session_id: 'c' });
    expect(await failure(a.prompt('[[hang]]', { session_id: 'c', idempotency_key: 'c' }))).toMatchObject({
      reason: 'cancelled',
    });
  });

  it('an idempotency key still answers with a failure that the same prompt would repeat: parallel or later, one model call', async () => {
    fixture.provider.behave(() => ({ status: 401 }));
    const failedPrompt = () => failure(a.prompt('hello', { idempotency_key: 'refused' }));
    const failures = [...(await Promise.all(Array.from({ length: 20 }, failedPrompt))), await failedPrompt()];
    expect(new Set(failures.map(({ reason, message, retryable }) => `${reason} ${message} ${retryable}`)).size).toBe(1);
    expect(failures[0]).toMatchObject({ reason: 'upstream_error', retryable: false });
    expect(fixture.provider.requests).toHaveLength(1);
  });

  it('an idempotency key is forgotten after 24 hours, and with its session', async () => {
    const first = await a.prompt('hi', { idempotency_key });
    fixture.clock.advance(DAY_MS - 60_000);
    expect((await a.prompt('hi', { idempotency_key })).turn_id).toBe(first.turn_id);
    fixture.clock.advance(120_000);
    const later = await a.prompt('hi', { idempotency_key });
    expect(later.turn_id).not.toBe(first.turn_id);
    await a.call(conversationDelete, { session_id: 's' });
    expect((await a.prompt('hi', { idempotency_key })).turn_id).not.toBe(later.turn_id);
  });

  it('a duplicate under an idempotency key receives the first turn’s events, with the same numbers', async () => {
    const one = a.stream('[[chunks 5 every 20]]', { idempotency_key });
    await one.until(isDelta);
    const two = a.stream('[[chunks 5 every 20]]', { idempotency_key });
    expect(await two.answer).toEqual(await one.answer);
    expect(two.events).toEqual(one.events);
  });
});

describe('a prompt that is tried again under its key', () => {
  const refuses = () => ({ status: 429, headers: { 'retry-after': '60' } });
  const read = async (on: Instance, session_id = 's') =>
    (await on.call(conversationHistory, { session_id, limit: 200 })).messages.map(
      ({ seq, role, content, turn_id }) => ({ seq, role, content, turn_id }),
    );
  const is429 = async (prompt: Promise<unknown>) =>
    expect(await failure(prompt)).toMatchObject({ reason: 'upstream_error', retryable: true });

  it('a prompt that is tried again under its key is one message, however often its provider has refused it, on whatever instance', async () => {
    const b = await fixture.instance();
    fixture.provider.behave(refuses);
    for (const instance of [a, b, a, b]) await is429(instance.prompt('again', { idempotency_key, on_busy: 'queue' }));
    fixture.provider.behave(() => ({ text: 'answer' }));
    const { turn_id } = await b.prompt('again', { idempotency_key, on_busy: 'queue' });
    expect(await read(a)).toEqual([
      { seq: 1, role: 'user', content: 'again', turn_id },
      { seq: 2, role: 'assistant', content: 'answer', turn_id },
    ]);
    expect(await b.prompt('again', { idempotency_key, on_busy: 'queue' })).toMatchObject({ turn_id });
    expect(fixture.provider.requests.at(-1)?.prompt).toBe('again');
  }, 30_000);

  it('a prompt that is tried again under its key continues in the session that its first attempt started', async () => {
    fixture.provider.behave(refuses);
    const params = { idempotency_key, session_id: undefined };
    await is429(a.prompt('again', params));
    await is429(a.prompt('again', params));
    fixture.provider.behave(() => ({ text: 'answer' }));
    const { session_id } = await a.prompt('again', params);
    const { conversations } = await a.call(conversationList, {});
    expect(conversations.map((session) => session.session_id)).toEqual([session_id]);
    expect(await read(a, session_id)).toHaveLength(2);
  }, 30_000);

  it('a prompt that is tried again under its key drops what a cut attempt had answered, short or long', async () => {
    for (const [text, session_id] of [
      ['short', 's'],
      ['long '.repeat(20_000), 'l'],
    ] as const) {
      fixture.provider.behave(() => ({ chunks: [text, text], cut: 'end' }));
      await failure(a.prompt('again', { session_id, idempotency_key: session_id }));
      expect(await read(a, session_id)).toMatchObject([{ role: 'user' }, { role: 'assistant' }]);
      fixture.provider.behave(() => ({ text: `whole ${text}` }));
      await a.prompt('again', { session_id, idempotency_key: session_id });
      expect(await read(a, session_id)).toMatchObject([{ content: 'again' }, { seq: 2, content: `whole ${text}` }]);
    }
  }, 30_000);

  it('a prompt that is tried again under its key keeps its place before later messages, and is the last message for the model', async () => {
    fixture.provider.behave(refuses);
    await is429(a.prompt('first', { idempotency_key }));
    fixture.provider.behave(({ prompt }) => ({ text: `to ${prompt.split(' ').at(-1)}` }));
    await a.prompt('second');
    await a.prompt('first', { idempotency_key });
    expect((await read(a)).map(({ content }) => content)).toEqual([
      'first',
      'second',
      expect.stringMatching('to'),
      'to first',
    ]);
  }, 30_000);

  it('a prompt that is tried again under its key is one message after its instance crashed in mid-answer', async () => {
    const running = a.stream('[[hang]]', { idempotency_key });
    await running.until(isDelta);
    a.line.state = 'down';
    fixture.clock.advance(31_000);
    fixture.provider.behave(() => ({ text: 'answer' }));
    const b = await fixture.instance();
    // The first retry meets the key of the turn that is lost, and ends that.
    await failure(b.prompt('[[hang]]', { idempotency_key }));
    const { turn_id } = await b.prompt('[[hang]]', { idempotency_key });
    expect((await read(b)).filter(({ role }) => role === 'user')).toEqual([
      { seq: 1, role: 'user', content: '[[hang]]', turn_id },
    ]);
    a.line.state = 'up';
    await failure(running.answer);
  });

  it('a prompt that is tried again under its key is one message when an attempt waits in the queue, or interrupts', async () => {
    for (const on_busy of ['queue', 'interrupt'] as const) {
      const session_id = `busy-${on_busy}`;
      const params = { session_id, idempotency_key: on_busy, on_busy };
      fixture.provider.behave(refuses);
      await is429(a.prompt('again', params));
      fixture.provider.behave(({ prompt }) =>
        prompt.endsWith('slow') ? { chunks: ['1', '2'], everyMs: 300 } : refuses(),
      );
      const slow = a.stream('slow', { session_id });
      await slow.until(isDelta);
      const end = on_busy === 'queue' ? slow.answer : failure(slow.answer);
      await is429(a.prompt('again', params));
      expect(await end).toMatchObject(on_busy === 'queue' ? { content: '12' } : { reason: 'cancelled' });
      fixture.provider.behave(() => ({ text: 'answer' }));
      await a.prompt('again', params);
      expect((await read(a, session_id)).filter(({ content }) => content === 'again')).toHaveLength(1);
    }
  }, 30_000);

  it('a prompt that is tried again under its key is one message after a restart', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'turns-'));
    const path = join(directory, 'gateway.sqlite');
    const open = () => createFixture({ openStore: (clock) => createEmbeddedStore({ path, clock }) });
    const before = await open();
    before.provider.behave(refuses);
    await is429((await before.instance()).prompt('again', { idempotency_key }));
    await before.close();
    const after = await open();
    const instance = await after.instance();
    await instance.prompt('again', { idempotency_key });
    expect(await read(instance)).toHaveLength(2);
    await after.close();
    rmSync(directory, { recursive: true });
  }, 30_000);

  it('a prompt that is tried again under its key is another message with other params', async () => {
    fixture.provider.behave(refuses);
    await is429(a.prompt('one', { idempotency_key }));
    fixture.provider.behave(() => ({ text: 'answer' }));
    await a.prompt('two', { idempotency_key });
    expect((await read(a)).map(({ content }) => content)).toEqual(['one', 'two', 'answer']);
  }, 30_000);
});

it('a key is kept over a restart of the gateway', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'turns-'));
  const path = join(directory, 'gateway.sqlite');
  const open = () => createFixture({ openStore: (clock) => createEmbeddedStore({ path, clock }) });
  const before = await open();
  const first = await (await before.instance()).prompt('hi', { idempotency_key });
  await before.close();
  const after = await open();
  const second = await (await after.instance()).prompt('hi', { idempotency_key });
  expect(second).toEqual(first);
  expect(after.provider.calls).toBe(0);
  await after.close();
  rmSync(directory, { recursive: true });
});
