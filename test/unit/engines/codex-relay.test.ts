// What stands between Codex and its providers: everything of the Responses API passes as it is, nothing else does, and
// each side sees how the other one ended.
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { toError } from '../../../shared/engines/codex/failures.ts';
import { NOT_A_STREAM, type Relay, startRelay, UNREACHABLE } from '../../../shared/engines/codex/server/relay.ts';

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

/** A provider with a scripted response, and a relay to it. */
async function start(answer: (request: IncomingMessage, response: ServerResponse) => void) {
  let connections = 0;
  const provider = createServer(answer).on('connection', () => connections++);
  provider.listen(0, '127.0.0.1');
  await once(provider, 'listening');
  const { port } = provider.address() as AddressInfo;
  closers.push(() => {
    provider.closeAllConnections();
    return new Promise((resolve) => provider.close(resolve));
  });
  const relay = await startRelay({
    gateway: `http://127.0.0.1:${port}/v1`,
    chatgpt: `http://127.0.0.1:${port}/backend`,
  });
  closers.push(() => relay.close());
  return { relay, port, connections: () => connections };
}

const post = (relay: Relay, init: RequestInit = {}): Promise<Response> =>
  fetch(`${relay.baseUrls.gateway}/responses`, { method: 'POST', body: 'question', ...init });

it('hands on path, headers, bodies and status as they are, to the provider that was meant', async () => {
  const seen: unknown[] = [];
  const { relay, port } = await start(async (request, response) => {
    const body = Buffer.concat(await request.toArray()).toString();
    const { authorization, host, 'x-own': own } = request.headers;
    seen.push({ url: request.url, authorization, host, own, body });
    response.writeHead(429, { 'retry-after': '7', 'set-cookie': ['a=1', 'b=2'] }).end('answer');
  });
  const headers = { authorization: 'Bearer sk', 'x-own': 'u' };
  const response = await post(relay, { headers });
  expect([response.status, response.headers.get('retry-after'), await response.text()]).toEqual([429, '7', 'answer']);
  expect(response.headers.getSetCookie()).toEqual(['a=1', 'b=2']);
  await fetch(`${relay.baseUrls.chatgpt}/responses/compact`, { method: 'POST', body: 'x' });
  expect(seen).toEqual([
    { url: '/v1/responses', authorization: 'Bearer sk', host: `127.0.0.1:${port}`, own: 'u', body: 'question' },
    {
      url: '/backend/responses/compact',
      authorization: undefined,
      host: `127.0.0.1:${port}`,
      own: undefined,
      body: 'x',
    },
  ]);
});

it.each(['text/html; charset=utf-8', 'application/json'])(
  'the relay replaces the status of a success of type %s where the request was for a stream',
  async (type) => {
    const { relay } = await start((_, response) => response.writeHead(200, { 'content-type': type }).end('answer'));
    const response = await post(relay);
    expect([response.status, await response.text()]).toEqual([NOT_A_STREAM, 'answer']);
    const compacted = await fetch(`${relay.baseUrls.gateway}/responses/compact`, { method: 'POST', body: 'x' });
    expect(compacted.status).toBe(200);
  },
);

it.each([
  [
    'unexpected status 496 <unknown>: <html><title>Welcome</title></html>, url: http://127.0.0.1:1/gateway/responses',
    'OpenAI answered with something other than a stream of events (200; is OPENAI_BASE_URL right?): Welcome',
    { retryable: false, data: { status: 200 } },
  ],
  [
    'stream disconnected before completion: It broke.',
    'OpenAI failed: It broke.',
    { retryable: true, data: { sent: true } },
  ],
  [
    'stream disconnected before completion: stream closed before response.completed',
    'OpenAI ended its answer before it was complete',
    { retryable: true, data: { sent: true } },
  ],
  [
    'stream disconnected before completion',
    'OpenAI ended its answer before it was complete',
    { retryable: true, data: { sent: true } },
  ],
])('reads %j of Codex', (message, expected, more) => {
  expect(toError({ message, codexErrorInfo: 'other' }, 'gpt-5')).toMatchObject({ message: expected, ...more });
});

it('keeps the connection to the provider for the next turn', async () => {
  const { relay, connections } = await start((_, response) => response.end('answer'));
  for (let turn = 0; turn < 3; turn++) expect(await (await post(relay)).text()).toBe('answer');
  expect(connections()).toBe(1);
});

it.each([
  ['GET', '/gateway/responses'],
  ['POST', '/gateway/models'],
  ['POST', '/gateway/responses/../../admin'],
  ['POST', '/elsewhere/responses'],
  ['POST', '/gateway/responses?to=http://metadata'],
  ['POST', '/'],
])('forwards no %s %s', async (method, path) => {
  const { relay, connections } = await start((_, response) => response.end());
  expect((await fetch(new URL(relay.baseUrls.gateway).origin + path, { method })).status).toBe(404);
  expect(connections()).toBe(0);
});

it('ends the provider’s work when Codex disconnects', async () => {
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  const { relay } = await start((_, response) => {
    response.on('close', resolve);
    response.write('data: begun\n\n');
  });
  const controller = new AbortController();
  const response = await post(relay, { signal: controller.signal });
  await response.body?.getReader().read();
  controller.abort();
  await ended;
});

it('shows an answer that was cut as cut', async () => {
  const { relay } = await start((_, response) => {
    response.write('data: begun\n\n', () => response.destroy());
  });
  await expect(post(relay).then((response) => response.text())).rejects.toThrow();
});

it('distinguishes a provider that cannot be reached from one that answers', async () => {
  const relay = await startRelay({ gateway: 'http://127.0.0.1:9/v1', chatgpt: 'http://127.0.0.1:9' });
  closers.push(() => relay.close());
  expect((await post(relay)).status).toBe(UNREACHABLE);
});
