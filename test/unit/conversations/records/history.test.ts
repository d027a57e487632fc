// The history of a conversation is complete and in order, at a cost that does not grow with its length. The model
// receives the newest part that fits.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createHistory } from '../../../../shared/conversations/records/messages/history.ts';
import { appendMessage } from '../../../../shared/conversations/records/messages/messages.ts';
import { newConversation } from '../../../../shared/conversations/turns/lease.ts';
import { conversationDelete } from '../../../../shared/methods/conversation.delete.ts';
import { conversationHistory } from '../../../../shared/methods/conversation.history.ts';
import { conversationList } from '../../../../shared/methods/conversation.list.ts';
import { conversationResume } from '../../../../shared/methods/conversation.resume.ts';
import { conversationStatus } from '../../../../shared/methods/conversation.status.ts';
import { createEmbeddedStore } from '../../../../shared/store/embedded/embedded.ts';
import {
  createFixture,
  type Fixture,
  failure,
  type Instance,
  MODEL,
} from '../../../support/fixtures/turns/conversations.ts';
import { readHistory } from '../../../support/fixtures/turns/histories.ts';

const NAUGHTY = [
  'null',
  '\u0000 \u0001 \u001b[31m',
  'é\u0301 \u202e right to left \u2066',
  '👩‍👩‍👧‍👦 𝒳 \u{10ffff}',
  '__proto__ constructor toString',
  "'; DROP TABLE documents; --",
  '{"jsonrpc":"2.0"} [[1,2],[3]]',
  '<script>alert(1)</script>\r\n\r\ndata: x\n\n',
  `${' '.repeat(1_000)}.`,
  '\\u0000 \\" \\',
];

let fixture: Fixture;
let a: Instance;
let b: Instance;
beforeEach(async () => {
  fixture = await createFixture();
  a = await fixture.instance();
  b = await fixture.instance();
  fixture.provider.behave(({ index }) => ({ text: `answer ${index}` }));
});
afterEach(() => fixture.close());

const readAll = (instance: Instance, limit: number) => readHistory(instance, 's', { limit });

describe('history', () => {
  it('the history has every message in order, page by page, while the conversation document stays small', async () => {
    for (let n = 0; n < 60; n++) await (n % 3 === 0 ? b : a).prompt(`prompt ${n}`);
    for (const limit of [7, 50, 200]) {
      const messages = await readAll(n(limit), limit);
      expect(messages.map(({ seq }) => seq)).toEqual(Array.from({ length: 120 }, (_, index) => index + 1));
      expect(messages.map(({ content }) => content)).toEqual(
        Array.from({ length: 120 }, (_, index) =>
          index % 2 === 0 ? `prompt ${index / 2}` : `answer ${(index - 1) / 2}`,
        ),
      );
    }
    expect((await fixture.documents()).filter((id) => id.startsWith('messages/'))).toHaveLength(2);
  });

  it('the history has the usage of an answer and why it was cut; the answer to the prompt has its number', async () => {
    fixture.provider.behave(() => ({ text: 'so much', end: 'length', cachedTokens: 1, reasoningTokens: 2 }));
    const first = await a.prompt('hello there', { idempotency_key: 'k' });
    expect(await b.prompt('hello there', { idempotency_key: 'k' })).toEqual(first);
    const second = await b.prompt('again');
    expect([first.message_seq, second.message_seq]).toEqual([2, 4]);
    const messages = await readAll(b, 200);
    expect(messages[1]).toMatchObject({ seq: 2, content: 'so much', finish_reason: 'length', usage: first.usage });
    expect(first.usage).toMatchObject({ cached_input_tokens: 1, reasoning_tokens: 2 });
    expect(messages[0]).not.toHaveProperty('usage');
    const status = await a.call(conversationStatus, { session_id: 's' });
    expect(status).toMatchObject({ metadata: { usage: { cached_input_tokens: 2, reasoning_tokens: 4 } } });
  });

  it('the history has the error of a failed turn, at its prompt or at the received part of its answer, until it is repeated', async () => {
    fixture.provider.behave(() => ({ status: 400, message: 'no such thing' }));
    await failure(a.prompt('one'));
    fixture.provider.behave(() => ({ text: 'half', streamError: 'middle' }));
    await failure(a.prompt('two', { idempotency_key: 'k' }));
    const error = { reason: 'upstream_error', message: expect.stringContaining('no such thing') };
    const [one, two, half] = await readAll(b, 200);
    expect(one).toMatchObject({ content: 'one', error });
    expect(two).not.toHaveProperty('error');
    expect(half).toMatchObject({ content: 'half', partial: true, error: { reason: 'upstream_error' } });
    fixture.provider.behave(() => ({ text: 'whole' }));
    await a.prompt('two', { idempotency_key: 'k' });
    const repeated = await readAll(b, 200);
    expect(repeated.map(({ content }) => content)).toEqual(['one', 'two', 'whole']);
    expect(repeated.slice(1).some((message) => 'error' in message)).toBe(false);
    fixture.provider.behave(() => ({ status: 503 }));
    await failure(a.prompt('three', { idempotency_key: 'k3' }));
    expect((await readAll(b, 200)).at(-1)).toMatchObject({ content: 'three', error: { reason: 'upstream_error' } });
    fixture.provider.behave(() => ({ text: 'fine' }));
    await a.prompt('three', { idempotency_key: 'k3' });
    const [three] = (await readAll(b, 200)).slice(-2);
    expect(three).toMatchObject({ content: 'three' });
    expect(three).not.toHaveProperty('error');
  });

  it('the conversation document stays small when every turn fails without an answer', async () => {
    fixture.provider.behave();
    for (let n = 0; n < 30; n++) await failure(a.prompt(`[[status 400]] ${n}`));
    const found = await a.services.conversations.find('default', 's');
    expect(found?.conversation).toMatchObject({ message_count: 30, chunks: [1] });
    expect(found?.conversation.recent.length).toBeLessThan(21);
    expect((await readAll(b, 200)).map(({ seq }) => seq)).toEqual(Array.from({ length: 30 }, (_, index) => index + 1));
  });

  it('the history is paged without a duplicate while the conversation continues', async () => {
    for (let n = 0; n < 9; n++) await a.prompt(`prompt ${n}`);
    const first = await a.call(conversationHistory, { session_id: 's', limit: 10 });
    for (let n = 9; n < 20; n++) await b.prompt(`prompt ${n}`);
    const rest = await a.call(conversationHistory, { session_id: 's', limit: 200, cursor: first.next_cursor });
    expect([...first.messages, ...rest.messages].map(({ seq }) => seq)).toEqual(
      Array.from({ length: 40 }, (_, index) => index + 1),
    );
  });

  it('long texts are stored completely in documents of their own: 33 KiB, a full body, an answer of 3 MB', async () => {
    fixture.provider.behave();
    const prompts = ['€'.repeat(12_000), '𝒳'.repeat(200_000), '[[size 3000000]]'];
    for (const prompt of prompts) await a.prompt(prompt);
    const messages = await readAll(b, 200);
    expect(messages.filter(({ role }) => role === 'user').map(({ content }) => content)).toEqual(prompts);
    expect(messages.at(-1)?.content).toHaveLength(46 * 65_536);
    const resumed = await b.call(conversationResume, { session_id: 's' });
    expect(resumed.content).toHaveLength(46 * 65_536);
  });

  it('any text is returned as it was stored', async () => {
    fixture.provider.behave(({ prompt }) => ({ text: `>${prompt}` }));
    for (const text of NAUGHTY) expect((await a.prompt(text)).content).toBe(`>${text}`);
    const messages = await readAll(b, 200);
    expect(messages.map(({ content }) => content)).toEqual(NAUGHTY.flatMap((text) => [text, `>${text}`]));
  });

  it('the model receives the newest messages that fit its budget, and the omitted ones are reported', async () => {
    const long = ' some words'.repeat(9_090);
    for (let n = 0; n < 5; n++) await a.prompt(`${n}${long}`);
    const requested = fixture.provider.next();
    const { events } = await a.prompt('last');
    // 150,000 tokens of 3 bytes, trimmed in steps of a quarter: three prompts of 100 kB and the answers between them.
    expect(events[0]).toMatchObject({ TaskStarted: { context: { messages: 7, trimmed: 4 } } });
    const { body, messages } = await requested;
    expect(messages).toBe(7);
    expect(JSON.stringify(body)).not.toMatch(/"[01] some/);
    expect((await readAll(a, 200)).length).toBe(12);
  });

  it('the model always receives the prompt, even one above the budget', async () => {
    const { events } = await a.prompt('x'.repeat(600_000));
    expect(events[0]).toMatchObject({ TaskStarted: { context: { messages: 1, trimmed: 0 } } });
  });
});

describe('sessions', () => {
  it('sessions are listed, the one used last first, each once, own ones only', async () => {
    for (let n = 0; n < 7; n++) {
      await a.prompt('hi', { session_id: `l${n}` });
      fixture.clock.advance(10);
    }
    await a.prompt('hi', { session_id: 'theirs' }, { owner: 'another' });
    const seen = [];
    let cursor: string | undefined;
    do {
      const page = await b.call(conversationList, { limit: 3, cursor });
      seen.push(...page.conversations.map(({ session_id }) => session_id));
      cursor = page.next_cursor;
    } while (cursor !== undefined);
    expect(seen).toEqual(['l6', 'l5', 'l4', 'l3', 'l2', 'l1', 'l0']);
  });

  it('sessions of another key are exactly like missing ones', async () => {
    const { turn_id } = await a.prompt('secret');
    const mine = { owner: 'default' };
    const foreign = { owner: 'another' };
    const normal = (error: { reason: string; message: string; data: object }) => [
      error.reason,
      error.message,
      error.data,
    ];
    for (const how of [foreign, mine]) {
      const session_id = how === mine ? 'missing' : 's';
      const call = (method: typeof conversationStatus) => a.call(method, { session_id }, how);
      expect(await call(conversationStatus)).toEqual({ status: 'not_found', session_id });
      expect(await a.call(conversationDelete, { session_id }, how)).toEqual({
        deleted: false,
        status: 'not_found',
        session_id,
      });
    }
    const [theirs, missing] = await Promise.all([
      failure(a.call(conversationResume, { session_id: 's', turn_id }, foreign)),
      failure(a.call(conversationResume, { session_id: 'missing', turn_id }, mine)),
    ]);
    expect(normal(theirs)).toEqual(normal(missing));
    await a.prompt('mine', { session_id: 'own' }, foreign);
    const [stolen, invented] = await Promise.all([
      failure(a.call(conversationResume, { session_id: 'own', turn_id }, foreign)),
      failure(a.call(conversationResume, { session_id: 'own', turn_id: 'turn_invented' }, foreign)),
    ]);
    expect(normal(stolen)).toEqual(normal(invented));
  });

  it('sessions are empty when they start again after deletion, on any instance', async () => {
    for (let n = 0; n < 15; n++) await a.prompt(`old ${n}`);
    await readAll(a, 200);
    await readAll(b, 200);
    await b.call(conversationDelete, { session_id: 's' });
    // The counters of the owner's tokens and bytes remain; they contain no content.
    const kept = (await fixture.documents()).filter((path) => !/^(usage|storage)\//.test(path));
    expect(kept).toEqual([]);
    for (let n = 0; n < 15; n++) await b.prompt(`new ${n}`);
    for (const instance of [a, b]) {
      const messages = await readAll(instance, 200);
      expect(messages).toHaveLength(30);
      expect(messages.some(({ content }) => content.startsWith('old'))).toBe(false);
    }
  });

  it('sessions that several callers delete at once are erased once; a new session of the same name is kept', async () => {
    for (let n = 0; n < 12; n++) await a.prompt(`old ${n}`);
    const outcomes = await Promise.all([
      a.call(conversationDelete, { session_id: 's' }),
      b.call(conversationDelete, { session_id: 's' }),
      a.prompt('alive', { on_busy: 'queue' }).catch(() => undefined),
      b.call(conversationDelete, { session_id: 's' }),
    ]);
    expect(JSON.stringify(outcomes)).toContain('"deleted":true');
    await a.prompt('alive again', { on_busy: 'queue' });
    const messages = await readAll(b, 200);
    expect(messages.some(({ content }) => content.startsWith('old'))).toBe(false);
    expect(messages.at(-2)?.content).toBe('alive again');
  });
});

it('an instance reads what another one stored in place of a chunk that was not committed', async () => {
  const store = createEmbeddedStore({ path: ':memory:', clock: { now: () => Date.now() } });
  try {
    const empty = newConversation('default', 's', 'conv_1', MODEL, '2026-11-13T14:00:00.000Z');
    const filled = (text: string) =>
      Array.from({ length: 22 }, (_, n) => n).reduce(
        (conversation, n) =>
          appendMessage(conversation, { role: 'user', text: `${text} ${n}`, turnId: 't', now: 'd', partial: false })
            .conversation,
        empty,
      );
    const [here, there] = [createHistory(store), createHistory(store)];
    // Its turn is ended by another instance, and later messages are dropped: other ones get the same numbers.
    await here.compact(filled('lost'));
    const compacted = await there.compact(filled('stored'));
    await store.commit(compacted.writes);
    const read = [];
    for await (const { text } of here.read(compacted.conversation)) read.push(text);
    expect(read).toEqual(Array.from({ length: 22 }, (_, n) => `stored ${n}`));
  } finally {
    await store.close();
  }
});

/** Reads from either instance. */
function n(limit: number): Instance {
  return limit % 2 === 0 ? a : b;
}
