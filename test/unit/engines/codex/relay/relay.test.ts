// The relay between Codex and its providers forwards only requests of a running turn, with the account of that turn,
// and reports the end of each side to the other.
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createListener } from 'node:net';
import { PassThrough, Readable } from 'node:stream';
import { afterEach, expect, it } from 'vitest';
import { openExit } from '../../../../../shared/codex-host/app-server/exit.ts';
import { createTranslation } from '../../../../../shared/engines/codex/events/translate.ts';
import { toError } from '../../../../../shared/engines/codex/failures.ts';
import { toNotification } from '../../../../../shared/engines/codex/protocol/notifications.ts';
import { toAccount } from '../../../../../shared/engines/codex/relay/account.ts';
import { createRelay, NOT_A_STREAM, type Relay, UNREACHABLE } from '../../../../../shared/engines/codex/relay/relay.ts';
import {
  createRunningTurns,
  createToken,
  type RunningTurns,
} from '../../../../../shared/engines/codex/relay/running-turns.ts';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

const MODEL = 'gpt-5';
const BODY = JSON.stringify({ model: MODEL, input: [{ model: 'gpt-6' }, '"model"'] });
const KEY = toAccount({}, 'sk-of-the-deployment');
const CLAIMS = Buffer.from('{"https://api.openai.com/auth":{"chatgpt_account_id":"acc-1"}}').toString('base64url');
const CHATGPT = toAccount({ credential: { provider: 'chatgpt', token: () => `e30.${CLAIMS}.x` } }, undefined);

/** A provider with scripted answers, and a relay to it with the exit of one app-server and a running turn. */
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
  const base = `http://127.0.0.1:${port}`;
  const relay = createRelay({ gateway: `${base}/v1`, chatgpt: `${base}/backend` });
  closers.push(relay.close);
  return { ...(await openAppServer(relay)), relay, port, connections: () => connections };
}

async function openAppServer(relay: Relay) {
  const listener = createListener().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const exit = openExit(listener);
  closers.push(exit.close);
  const running = createRunningTurns();
  exit.onRequest((request, answer) => relay.forward(request, answer, running));
  const { port } = listener.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, running, ...begin(running) };
}

function begin(running: RunningTurns, account = KEY) {
  const token = createToken();
  const begun = running.begin(token, { account, modelIds: [MODEL] });
  return { token, begun, end: begun.end };
}

interface From {
  readonly url: string;
  readonly token: string;
}

const post = ({ url, token }: From, init: RequestInit = {}, path = '/responses'): Promise<Response> =>
  fetch(url + path, {
    method: 'POST',
    body: BODY,
    ...init,
    headers: { authorization: `Bearer ${token}`, ...Object(init.headers) },
  });

it('the relay adds the turn’s credential, takes no address or credential from Codex, and returns no cookie', async () => {
  const seen: unknown[] = [];
  const { url, token, running, port } = await start(async (request, response) => {
    const body = Buffer.concat(await request.toArray()).toString();
    seen.push({ url: request.url, headers: request.headers, body });
    response.writeHead(429, { 'retry-after': '7', 'set-cookie': ['a=1', 'b=2'] }).end('answer');
  });
  const headers = {
    ...{ host: 'elsewhere', cookie: 'a=1', 'x-api-key': 'k', 'x-forwarded-for': '1.2.3.4', 'x-own': 'u' },
    ...{ 'chatgpt-account-id': 'other', 'openai-organization': 'other', 'x-openai-account-routing-override': 'other' },
    ...{ 'x-codex-window-id': 'w', 'session-id': 's', 'user-agent': 'codex', accept: 'text/event-stream' },
  };
  const response = await post({ url, token }, { headers });
  expect([response.status, response.headers.get('retry-after'), await response.text()]).toEqual([429, '7', 'answer']);
  expect(response.headers.getSetCookie()).toEqual([]);
  await post({ url, token: begin(running, CHATGPT).token }, {}, '/responses/compact');
  const sent = {
    host: `127.0.0.1:${port}`,
    connection: 'keep-alive',
    'content-type': 'application/json',
    'content-length': String(BODY.length),
    'user-agent': expect.any(String),
    accept: expect.any(String),
  };
  expect(seen).toEqual([
    {
      url: '/v1/responses',
      headers: {
        ...sent,
        ...{ authorization: 'Bearer sk-of-the-deployment', 'user-agent': 'codex', accept: 'text/event-stream' },
        ...{ 'x-codex-window-id': 'w', 'session-id': 's' },
      },
      body: BODY,
    },
    {
      url: '/backend/responses/compact',
      headers: { ...sent, authorization: `Bearer e30.${CLAIMS}.x`, 'chatgpt-account-id': 'acc-1' },
      body: BODY,
    },
  ]);
});

it('the relay counts the tokens of a provider and of Codex as natural numbers, bounded', async () => {
  const from = await start((_, response) =>
    response
      .writeHead(200, { 'content-type': 'text/event-stream' })
      .end('data: {"usage":{"input_tokens":1e308,"output_tokens":-5,"total_tokens":1e308}}\n\n'),
  );
  await (await post(from)).text();
  expect(from.begun.usage).toEqual({ input_tokens: 10_000_000, output_tokens: 0, total_tokens: 10_000_000 });
  const translation = createTranslation('u', []);
  for (const totalTokens of [20_000_000, 30_000_000]) {
    const last = { inputTokens: 1e308, outputTokens: -5, totalTokens: 7.5 };
    const tokens = { ...last, cachedInputTokens: 0, reasoningOutputTokens: 1.5 };
    const tokenUsage = { last: tokens, total: { ...tokens, totalTokens } };
    const read = toNotification('thread/tokenUsage/updated', { threadId: 't', turnId: 'u', tokenUsage });
    if (read !== undefined) translation.toEvents(read);
  }
  const usage = { input_tokens: 20_000_000, output_tokens: 0, total_tokens: 16, reasoning_tokens: 4 };
  expect(translation.usage).toEqual(usage);
});

it.each(['text/html; charset=utf-8', 'application/json'])(
  'the relay replaces the status of a success of type %s where the request was for a stream',
  async (type) => {
    const from = await start((_, response) => response.writeHead(200, { 'content-type': type }).end('answer'));
    const response = await post(from);
    expect([response.status, await response.text()]).toEqual([NOT_A_STREAM, 'answer']);
    expect((await post(from, {}, '/responses/compact')).status).toBe(200);
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
])('the message %j of Codex becomes an error of the table', (message, expected, more) => {
  expect(toError({ message, codexErrorInfo: 'other' }, 'gpt-5')).toMatchObject({ message: expected, ...more });
});

it('the relay keeps the connection to the provider for the next turn', async () => {
  const from = await start((_, response) => response.end('answer'));
  for (let turn = 0; turn < 3; turn++) expect(await (await post(from)).text()).toBe('answer');
  expect(from.connections()).toBe(1);
});

it.each([
  ['GET', '/responses'],
  ['PUT', '/responses'],
  ['POST', '/models'],
  ['POST', '/v1/responses'],
  ['POST', '/responses/../../admin'],
  ['POST', '/responses?to=http://metadata'],
  ['POST', '//elsewhere/responses'],
  ['POST', '/'],
])('the relay refuses %s %s, and calls no provider', async (method, path) => {
  const from = await start((_, response) => response.end());
  const body = method === 'GET' ? null : BODY;
  expect((await post(from, { method, body }, path)).status).toBe(404);
  expect(from.connections()).toBe(0);
});

it('the relay refuses every token but that of a running turn of this app-server', async () => {
  const from = await start((_, response) => response.end('answer'));
  const other = await openAppServer(from.relay);
  const { token: ended, end } = begin(from.running);
  end();
  for (const authorization of ['', 'Bearer ', `Bearer ${other.token}`, `Bearer ${ended}`, `Basic ${from.token}`])
    expect((await post(from, { headers: { authorization } })).status).toBe(401);
  expect(from.connections()).toBe(0);
  expect((await post(from)).status).toBe(200);
  from.end();
  expect((await post(from)).status).toBe(401);
});

it.each([
  ['another one', '{"model":"gpt-6"}'],
  ['none', '{"input":[]}'],
  ['two', '{"model":"gpt-5","model":"gpt-6"}'],
  ['two, one of them escaped', '{"model":"gpt-5","\\u006dodel":"gpt-6"}'],
  ['one, below another member', '{"input":{"model":"gpt-5"}}'],
  ['one, after the object', '{} {"model":"gpt-5"}'],
  ['one that is no string', '{"model":["gpt-5"]}'],
  ['one in UTF-16', Buffer.from('{"model":"gpt-5"}', 'utf16le')],
  ['one in what is no JSON', 'model: "gpt-5"'],
])('the relay refuses a body that names a model of %s', async (_, body) => {
  const from = await start((_, response) => response.end());
  expect((await post(from, { body })).status).toBe(403);
  expect(from.connections()).toBe(0);
});

it('the relay refuses a body of more than 32 MiB before it is read to its end', async () => {
  const { relay, running, token, connections } = await start((_, response) => response.end());
  let chunks = 0;
  const body = Readable.from(
    (function* () {
      for (; chunks < 64; chunks++) yield Buffer.alloc(1 << 20);
    })(),
  );
  const { promise: status, resolve } = Promise.withResolvers<number>();
  const request = { method: 'POST', path: '/responses', headers: { authorization: [`Bearer ${token}`] }, body };
  relay.forward(request, { writeHead: resolve, body: new PassThrough().resume() }, running);
  expect(await status).toBe(413);
  expect(chunks).toBeLessThan(48);
  expect(connections()).toBe(0);
});

it('the relay ends the provider’s work when Codex disconnects, and when the turn is over', async () => {
  const ended: Promise<unknown>[] = [];
  const from = await start((_, response) => {
    ended.push(once(response, 'close'));
    response.write('data: begun\n\n');
  });
  const controller = new AbortController();
  const response = await post(from, { signal: controller.signal });
  await response.body?.getReader().read();
  controller.abort();
  await ended[0];
  const late = await post(from);
  from.end();
  await expect(late.text()).rejects.toThrow();
  await ended[1];
});

it('the relay passes on an answer that was cut as one that is cut', async () => {
  const from = await start((_, response) => {
    response.write('data: begun\n\n', () => response.destroy());
  });
  await expect(post(from).then((response) => response.text())).rejects.toThrow();
});

it('the relay distinguishes a provider that cannot be reached from one that answers', async () => {
  const relay = createRelay({ gateway: 'http://127.0.0.1:9/v1', chatgpt: 'http://127.0.0.1:9' });
  closers.push(relay.close);
  expect((await post(await openAppServer(relay))).status).toBe(UNREACHABLE);
});

it('the relay answers an app-server that has no listener', async () => {
  const listener = createListener().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  closers.push(openExit(listener).close);
  const { port } = listener.address() as AddressInfo;
  expect((await fetch(`http://127.0.0.1:${port}/responses`, { method: 'POST', body: BODY })).status).toBe(503);
});
