// A turn of another owner that `Last-Event-ID` names looks like one that does not exist: the same error, after the same
// wait for a record that may not be stored yet, also where the caller has a session of the same name.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { conversationPrompt } from '../../../../shared/methods/conversation.prompt.ts';
import { conversationStatus } from '../../../../shared/methods/conversation.status.ts';
import {
  createFixture,
  type Fixture,
  failure,
  type Instance,
  isDelta,
} from '../../../support/fixtures/turns/conversations.ts';

const MISSING = 'turn_0000000000000000000000';

let fixture: Fixture;
let a: Instance;
beforeEach(async () => {
  fixture = await createFixture();
  a = await fixture.instance();
});
afterEach(() => fixture.close());

it.each(['running', 'ended'] as const)('a %s turn of another owner is waited for like a missing one', async (state) => {
  const alice = { owner: 'alice' };
  let turnId: string;
  if (state === 'ended') turnId = (await a.prompt('hello', {}, alice)).turn_id;
  else {
    fixture.provider.behave(() => ({ hang: 'stream' }));
    const running = a.stream('slow', {}, alice);
    await running.until(isDelta);
    const { turn } = await a.call(conversationStatus, { session_id: 's' }, alice).then((found) => {
      if (found.status === 'not_found') throw new Error('the session is missing');
      return found;
    });
    turnId = turn?.turn_id ?? '';
    fixture.provider.behave();
  }
  await a.prompt('mine', {}, { owner: 'bob' });

  const left = new AbortController();
  const settled: string[] = [];
  const resumed = [turnId, MISSING].map(async (id) => {
    const requestMetadata = { lastEventId: `${id}:1` };
    const how = { owner: 'bob', transport: 'sse', signal: left.signal, requestMetadata } as const;
    const error = await failure(a.call(conversationPrompt, { prompt: 'mine' }, how));
    settled.push(id);
    return { reason: error.reason, message: error.message, data: error.data };
  });
  // Many more reads than a resume without a wait would take.
  for (let n = 0; n < 20; n++) await a.call(conversationStatus, { session_id: 's' }, { owner: 'bob' });
  expect(settled).toEqual([]);
  left.abort();
  const [foreign, missing] = await Promise.all(resumed);
  expect(foreign).toEqual(missing);
  expect(foreign).toMatchObject({ reason: 'not_found' });
});
