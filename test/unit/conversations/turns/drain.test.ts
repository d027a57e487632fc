// The turns of an instance that shuts down complete within its grace or end as interrupted, each with one terminal
// event that every reader gets.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { conversationHistory } from '../../../../shared/methods/conversation.history.ts';
import { conversationResume } from '../../../../shared/methods/conversation.resume.ts';
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
let b: Instance;
beforeEach(async () => {
  fixture = await createFixture();
  a = await fixture.instance();
  b = await fixture.instance();
});
afterEach(() => fixture.close());

it('a turn that ends within the grace completes as ever', async () => {
  const gate = Promise.withResolvers<void>();
  fixture.provider.behave(() => ({
    chunks: ['one ', 'two'],
    gate: (n) => (n === 1 ? gate.promise : Promise.resolve()),
  }));
  const running = a.stream('count');
  await running.until(isDelta);
  const drained = a.services.conversations.drain(60_000);
  gate.resolve();
  await drained;
  expect(await running.answer).toMatchObject({ type: 'ai_response', content: 'one two' });
  expect(running.events.filter(isTerminal)).toMatchObject([{ event: { TaskComplete: {} } }]);
  expect(await b.call(conversationStatus, { session_id: 's' })).toMatchObject({ status: 'idle' });
});

it('a turn that outlasts the grace is interrupted, keeps its text, and leaves its session usable elsewhere', async () => {
  const running = a.stream('[[hang]]');
  await running.until(isDelta);
  await a.services.conversations.drain(0);
  const interrupted = { TurnAborted: { reason: 'interrupted' } };
  expect(await failure(running.answer)).toMatchObject({ reason: 'unavailable', retryable: true });
  expect(running.events.filter(isTerminal)).toMatchObject([{ event: interrupted }]);
  const resumed = await b.call(conversationResume, { session_id: 's' });
  expect(resumed.events?.map(({ seq }) => seq)).toEqual(running.events.map(({ seq }) => seq));
  expect(resumed.events?.at(-1)?.event).toMatchObject(interrupted);
  expect(await fixture.provider.requests[0]?.done).toMatchObject({ by: 'client' });
  const { messages } = await b.call(conversationHistory, { session_id: 's' });
  expect(messages.at(-1)).toMatchObject({ role: 'assistant', content: 'You said: ', partial: true });
  expect((await b.prompt('[[say next]]')).content).toBe('next');
});

it('a turn whose prompt was being admitted when the shutdown began is interrupted after the grace, too', async () => {
  const [stored, answered] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const { commit } = a.line;
  a.line.commit = async (writes, options) => {
    a.line.commit = commit;
    const versions = await commit(writes, options);
    stored.resolve();
    await answered.promise;
    return versions;
  };
  const running = a.stream('[[hang]]');
  await stored.promise;
  await a.services.conversations.drain(0);
  answered.resolve();
  expect(await failure(running.answer)).toMatchObject({ reason: 'unavailable', retryable: true });
  expect(running.events.filter(isTerminal)).toMatchObject([{ event: { TurnAborted: { reason: 'interrupted' } } }]);
  expect(await b.call(conversationStatus, { session_id: 's' })).toMatchObject({ status: 'cancelled' });
});
