// A prompt of any characters is returned unchanged: in the answer, in the stream and in the history, over HTTP and over
// a WebSocket.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isBlank } from '../../shared/messages/text.ts';
import { createFuzzFixture, type FuzzFixture } from '../support/fixtures/fuzz/gateway.ts';
import { NAUGHTY_STRINGS } from '../support/fixtures/fuzz/naughty-strings.ts';
import {
  memberOf,
  openHttp,
  openWebSocket,
  type Received,
  type Transport,
} from '../support/fixtures/fuzz/transports.ts';

/** A prompt must contain more than white space. */
const PROMPTS = NAUGHTY_STRINGS.filter((text) => !isBlank(text));

const KEY = 'dev-key';
/** The engine of a machine without a provider quotes no more than this. */
const QUOTED_CHARS_MAX = 4_000;
const PAGE = 100;

let fixture: FuzzFixture;
beforeAll(async () => {
  fixture = await createFuzzFixture();
});
afterAll(() => fixture.close());

async function call(
  transport: Transport,
  method: string,
  params: object,
): Promise<{ result: unknown; received: Received }> {
  const received = await transport.send(Buffer.from(JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 })));
  const result = memberOf(received.answers[0], 'result');
  expect(result, JSON.stringify(received.answers[0])?.slice(0, 500)).toBeDefined();
  return { result, received };
}

/** All messages of a session, page by page. */
async function historyOf(transport: Transport, session_id: string): Promise<readonly unknown[]> {
  const messages: unknown[] = [];
  for (let cursor: unknown; messages.length < 1_000; ) {
    const { result } = await call(transport, 'conversation.history', { session_id, limit: PAGE, cursor });
    const page = memberOf(result, 'messages');
    if (Array.isArray(page)) messages.push(...page);
    cursor = memberOf(result, 'next_cursor');
    if (cursor === undefined) break;
  }
  return messages;
}

/** The answer as its stream sent it. */
function streamedText({ notifications }: Received): string {
  const events = notifications.map((notification) => memberOf(memberOf(notification, 'params'), 'event'));
  const deltas = events.map((event) => memberOf(memberOf(event, 'AgentMessageDelta'), 'delta') ?? '');
  return deltas.join('');
}

describe.each([
  ['HTTP', (url: string) => openHttp(url, KEY, 'http')],
  ['SSE', (url: string) => openHttp(url, KEY, 'sse')],
  ['WebSocket', (url: string) => openWebSocket(url, KEY)],
] as const)(`${NAUGHTY_STRINGS.length} naughty strings over %s`, (name, open) => {
  let transport: Transport;
  beforeAll(() => {
    transport = open(fixture.gateway.url);
  });
  afterAll(() => transport.close());

  it('naughty strings are unchanged in prompt, answer, stream and history', async () => {
    const session_id = `naughty ${name} <b>&"'`;
    const answers: string[] = [];
    for (const prompt of PROMPTS) {
      const { result, received } = await call(transport, 'conversation.prompt', { prompt, session_id });
      const content = String(memberOf(result, 'content'));
      answers.push(content);
      if (prompt.length > QUOTED_CHARS_MAX) expect(content.isWellFormed()).toBe(true);
      else expect(content.endsWith(`You said: ${prompt}`), JSON.stringify(prompt)).toBe(true);
      if (name !== 'HTTP') expect(streamedText(received)).toBe(content);
    }
    const contents = (await historyOf(transport, session_id)).map((message) => memberOf(message, 'content'));
    const messages = PROMPTS.flatMap((prompt, index) => [prompt, answers[index]]);
    // Not one big comparison: a failure would print megabytes.
    expect(contents.length).toBe(messages.length);
    for (const [index, text] of messages.entries()) {
      expect(contents[index] === text, `message ${index + 1}: ${JSON.stringify(text?.slice(0, 100))}`).toBe(true);
    }
  });
});

describe('naughty strings without control characters', () => {
  it('naughty strings without control characters can be names of sessions', async () => {
    const transport = openHttp(fixture.gateway.url, KEY, 'http');
    const ids = NAUGHTY_STRINGS.filter((text) => text.length <= 128 && !/\p{Cc}/u.test(text));
    expect(ids.length).toBeGreaterThan(50);
    for (const session_id of ids) {
      const { result } = await call(transport, 'conversation.prompt', { prompt: 'hi', session_id });
      expect(memberOf(result, 'session_id')).toBe(session_id);
    }
    const { result } = await call(transport, 'conversation.list', { limit: PAGE });
    const listed = memberOf(result, 'conversations');
    const names = Array.isArray(listed) ? listed.map((one) => memberOf(one, 'session_id')) : [];
    expect(names).toEqual(expect.arrayContaining(ids));
    transport.close();
  });
});
