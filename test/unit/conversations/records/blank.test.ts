// A session with messages that are only white space stays usable: the next prompt is answered, whichever way the
// messages were stored.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Conversations, conversationRef } from '../../../../shared/conversations/records/documents.ts';
import { conversationCancel } from '../../../../shared/methods/conversation.cancel.ts';
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

it('a session continues after an answer that was cancelled when it had only line breaks', async () => {
  fixture.provider.behave(() => ({
    chunks: ['\n\n', 'x'],
    gate: (index) => (index === 1 ? new Promise(() => {}) : Promise.resolve()),
  }));
  const running = a.stream('begin');
  await running.until(isDelta);
  await a.call(conversationCancel, { session_id: 's' });
  expect((await failure(running.answer)).reason).toBe('cancelled');
  fixture.provider.behave();
  expect((await a.prompt('and now?')).content).toMatch(/and now\?$/);
});

it('a session continues after an answer of white space', async () => {
  fixture.provider.behave(() => ({ text: ' \n' }));
  await a.prompt('say nothing');
  fixture.provider.behave();
  expect((await a.prompt('and now?')).content).toMatch(/and now\?$/);
});

it('a session continues where an earlier version stored blank prompts and answers', async () => {
  await a.prompt('first');
  const ref = conversationRef('default', 's');
  const [snapshot] = await fixture.store.get([ref]);
  const document = Conversations.read(snapshot);
  if (document === undefined) throw new Error('no session');
  const recent = document.recent.map((message) => ({
    ...message,
    content: message.seq === 1 ? ' ' : '\n\n',
    bytes: 2,
  }));
  await fixture.store.commit([{ ref, data: { ...document, recent } }]);
  const b = await fixture.instance();
  expect((await b.prompt('second', { instructions: ' \t' })).content).toBe('You said: second');
});
