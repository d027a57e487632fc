// Another instance can read a turn whose fallback answers, while its first model fails and after its owner has ended.
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { NumberedEvent } from '../../../../shared/conversations/records/event-log.ts';
import { conversationHistory } from '../../../../shared/methods/conversation.history.ts';
import { conversationResume } from '../../../../shared/methods/conversation.resume.ts';
import { conversationStatus } from '../../../../shared/methods/conversation.status.ts';
import {
  createFixture,
  type Fixture,
  failure,
  type Instance,
  isDelta,
} from '../../../support/fixtures/turns/conversations.ts';

const LEASE_MS = 20_000;
const NEXT = 'anthropic/claude-next';
const STARTED = { TaskStarted: { model: NEXT, fallback_from: [{ reason: 'upstream_error' }] } };

let fixture: Fixture;
let a: Instance;
let b: Instance;
beforeEach(async () => {
  fixture = await createFixture({ env: { GATEWAY_LEASE_MS: String(LEASE_MS), GATEWAY_HEARTBEAT_MS: '200' } });
  a = await fixture.instance();
  b = await fixture.instance();
});
afterEach(() => fixture.close());

it('a turn can be followed from its first event on, though none is stored until a model answers', async () => {
  const failing = Promise.withResolvers<void>();
  fixture.provider.behave(({ model }) =>
    model === 'claude-next' ? { text: 'answer' } : { chunks: [''], cut: 'end', gate: () => failing.promise },
  );
  const called = fixture.provider.next();
  const answer = a.prompt('hello', { fallbacks: [NEXT] });
  await called;
  const followed: NumberedEvent[] = [];
  const onEvent = (event: NumberedEvent): void => void followed.push(event);
  const reader = b.call(conversationResume, { session_id: 's' }, { transport: 'sse', onEvent });
  expect(await b.call(conversationStatus, { session_id: 's' })).toMatchObject({ status: 'running' });
  failing.resolve();
  expect(await answer).toMatchObject({ model: NEXT, content: 'answer' });
  expect(await reader).toMatchObject({ status: 'completed' });
  expect(followed[0]).toMatchObject({ seq: 1, event: STARTED });
  expect(followed.at(-1)?.event).toHaveProperty('TaskComplete');
});

it('an answer belongs to the fallback in the history also if its owner ends within the answer', async () => {
  fixture.provider.behave(({ model }) =>
    model === 'claude-next' ? { chunks: ['begun ', 'never'], hang: 'stream' } : { status: 403 },
  );
  const running = a.stream('hello', { fallbacks: [NEXT] });
  await running.until(isDelta);
  // The events are stored within a second.
  await expect
    .poll(async () =>
      (await b.call(conversationResume, { session_id: 's' })).events?.filter(
        ({ event }) => 'AgentMessageDelta' in event,
      ),
    )
    .toHaveLength(1);
  a.line.state = 'down';
  fixture.clock.advance(LEASE_MS + 1);
  expect(await b.call(conversationStatus, { session_id: 's' })).toMatchObject({ turn: { status: 'interrupted' } });
  const { messages } = await b.call(conversationHistory, { session_id: 's' });
  expect(messages).toMatchObject([{ role: 'user' }, { role: 'assistant', content: 'begun ', model: NEXT }]);
  const resumed = await b.call(conversationResume, { session_id: 's' });
  expect(resumed.events?.[0]?.event).toMatchObject(STARTED);
  a.line.state = 'up';
  await failure(running.answer);
});
