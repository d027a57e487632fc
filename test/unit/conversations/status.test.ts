// `conversation.status`, `.cancel`, `.list` and `.history` return each state of a session. A prompt sends its own
// instructions to the model.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEventDecoder, encodeEvents } from '../../../shared/conversations/records/event-log.ts';
import { conversationCancel } from '../../../shared/methods/conversation.cancel.ts';
import { conversationHistory } from '../../../shared/methods/conversation.history.ts';
import { conversationList } from '../../../shared/methods/conversation.list.ts';
import { conversationStatus } from '../../../shared/methods/conversation.status.ts';
import {
  createFixture,
  type Fixture,
  failure,
  type Instance,
  isDelta,
  MODEL,
} from '../../support/fixtures/turns/conversations.ts';

let fixture: Fixture;
let a: Instance;
beforeEach(async () => {
  fixture = await createFixture();
  a = await fixture.instance();
});
afterEach(() => fixture.close());

const session_id = 's';
const status = () => a.call(conversationStatus, { session_id });
const listed = async () => (await a.call(conversationList, {})).conversations[0];

describe('the state of a session', () => {
  it('the state of a session is not_found before its first prompt, also to a cancel', async () => {
    expect(await status()).toEqual({ status: 'not_found', session_id });
    const cancelled = await a.call(conversationCancel, { session_id });
    expect(cancelled).toEqual({ cancelled: false, status: 'not_found', session_id });
    // Neither has made one.
    expect(await listed()).toBeUndefined();
  });

  it('the state of a session is running, then idle, failed or cancelled, with the turn that made it so, and in the list the same', async () => {
    const { turn_id } = await a.prompt('hello');
    expect(await status()).toMatchObject({ status: 'idle', session_id, turn: { turn_id, status: 'completed' } });
    expect(await listed()).toMatchObject({ status: 'idle', session_id });

    fixture.provider.behave(() => ({ status: 400 }));
    const { data } = await failure(a.prompt('refused'));
    const failed = { turn_id: data.turn_id, status: 'failed' };
    expect(await status()).toMatchObject({ status: 'failed', turn: failed });
    expect(await listed()).toMatchObject({ status: 'failed' });

    fixture.provider.behave(() => ({ hang: 'stream' }));
    const running = a.stream('slow');
    await running.until(isDelta);
    const started = { status: 'running', started_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT/) };
    expect(await status()).toMatchObject({ status: 'running', turn: started });
    expect(await listed()).toMatchObject({ status: 'running' });

    const cancelled = await a.call(conversationCancel, { session_id });
    const { conversation_id } = (await listed()) ?? {};
    expect(cancelled).toEqual({ cancelled: true, session_id, conversation_id, was_running: true });
    await failure(running.answer);
    expect(await status()).toMatchObject({ status: 'cancelled', turn: { status: 'cancelled' } });
    expect(await listed()).toMatchObject({ status: 'cancelled' });
    fixture.provider.behave();
    expect(await a.prompt('still usable')).toMatchObject({ conversation_id });
    expect(await status()).toMatchObject({ status: 'idle' });
  });

  it('the state of a session has model, times, number of messages and usage of the whole session', async () => {
    const first = await a.prompt('one');
    const before = await status();
    fixture.clock.advance(60_000);
    const second = await a.prompt('two', { model: 'offline/echo' });
    const after = await status();
    if (!('metadata' in before) || !('metadata' in after)) throw new Error('no session');
    expect(before).toMatchObject({ conversation_id: first.conversation_id, metadata: { model: MODEL } });
    expect(before.metadata).toMatchObject({ message_count: 2, usage: first.usage });
    const total_tokens = first.usage.total_tokens + second.usage.total_tokens;
    expect(after.metadata).toMatchObject({ model: 'offline/echo', message_count: 4, usage: { total_tokens } });
    expect(after.metadata.created_at).toBe(before.metadata.created_at);
    const laterMs = Date.parse(after.metadata.updated_at) - Date.parse(before.metadata.updated_at);
    expect(laterMs).toBeGreaterThanOrEqual(60_000);
    expect(await listed()).toMatchObject(after.metadata);
  });
});

it('the history has each message with its turn, role and time, and the conversation’s id', async () => {
  const one = await a.prompt('first');
  fixture.clock.advance(60_000);
  const two = await a.prompt('second');
  const { conversation_id, messages } = await a.call(conversationHistory, { session_id });
  expect(conversation_id).toBe(one.conversation_id);
  expect(messages).toMatchObject([
    { seq: 1, role: 'user', content: 'first', turn_id: one.turn_id },
    { seq: 2, role: 'assistant', content: one.content, turn_id: one.turn_id },
    { seq: 3, role: 'user', content: 'second', turn_id: two.turn_id },
    { seq: 4, role: 'assistant', content: two.content, turn_id: two.turn_id },
  ]);
  const [first, , third] = messages.map(({ created_at }) => Date.parse(created_at));
  expect((third ?? 0) - (first ?? 0)).toBeGreaterThanOrEqual(60_000);
});

it('instructions reach the model with their own prompt and with no other', async () => {
  for (const [prompt, params] of [
    ['one', { instructions: 'Answer in rhymes.' }],
    ['two', {}],
  ] as const) {
    const requested = fixture.provider.next();
    await a.prompt(prompt, params);
    const text = JSON.stringify((await requested).body);
    expect(text.includes('Answer in rhymes.')).toBe('instructions' in params);
  }
});

it('the reasoning of a model is an event of its turn, not a part of the answer', async () => {
  fixture.provider.behave(() => ({ reasoning: 'let me see', text: 'yes' }));
  const running = a.stream('think');
  const answer = await running.answer;
  expect(answer.content).toBe('yes');
  const events = running.events.map(({ event }) => event);
  expect(events.slice(1, 3)).toEqual([
    { AgentReasoningDelta: { delta: 'let me see' } },
    { AgentReasoning: { text: 'let me see' } },
  ]);
  expect(JSON.stringify(answer.events)).not.toContain('let me see');
});

it('reasoning is stored once, as the deltas, and read as it was sent', () => {
  const sent = [
    { AgentReasoningDelta: { delta: 'let me ' } },
    { AgentReasoningDelta: { delta: 'see' } },
    { AgentReasoning: { text: 'let me see' } },
    { AgentReasoningDelta: { delta: 'again' } },
    { AgentReasoning: { text: 'again' } },
  ].map((event, index) => ({ seq: index + 1, event }));
  const chunks = [encodeEvents(sent.slice(0, 1)), encodeEvents(sent.slice(1))];
  expect(chunks.join('').match(/see/g)).toHaveLength(1);
  const decode = createEventDecoder();
  expect([...decode(1, chunks[0] ?? ''), ...decode(2, chunks[1] ?? '')]).toEqual(sent);
  // As older versions store it.
  expect(decode(6, '[{"AgentReasoning":{"text":"whole"}}]')).toEqual([
    { seq: 6, event: { AgentReasoning: { text: 'whole' } } },
  ]);
});
