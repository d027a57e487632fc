// A call of the client rejects with typed errors, and retries repeat no effect and wait as long as the gateway
// requests. Methods have the same signatures as in the reference.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { CodexGatewayClient } from '../../../shared/client/gateway-client.ts';
import type { Methods } from '../../../shared/client/methods.ts';
import { createFixture, type Fixture, failure, KEY } from '../../support/fixtures/gateway/client.ts';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
});
afterAll(() => fixture.close());

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close().closeAllConnections();
});

interface Answer {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: string;
}

/**
 * An HTTP server that gives these answers in order, repeats the last one, and records when each request came.
 */
async function startServer(...answers: Answer[]): Promise<{ url: string; requestedAtMs: number[] }> {
  const requestedAtMs: number[] = [];
  const server = createServer((_req, res) => {
    const answer = answers[Math.min(requestedAtMs.length, answers.length - 1)];
    requestedAtMs.push(performance.now());
    res.writeHead(answer?.status ?? 200, { 'content-type': 'application/json', ...answer?.headers }).end(answer?.body);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requestedAtMs };
}

const STATUS = { session_id: 's' };
const ok: Answer = { body: JSON.stringify({ jsonrpc: '2.0', id: 1, result: { status: 'not_found', ...STATUS } }) };
const refusal = (code: number, reason: string, retryable: boolean, retry_after_ms?: number): Answer => ({
  status: code,
  body: JSON.stringify({
    jsonrpc: '2.0',
    id: 1,
    error: { code, message: reason, data: { reason, request_id: 'req_1', retryable, retry_after_ms } },
  }),
});

describe('the methods of the reference', () => {
  it('the methods of the reference return the raw response, errors too', async () => {
    const client = fixture.client();
    expect(await client.healthCheck()).toEqual({ status: 'healthy' });
    const answer = await client.conversationPrompt('Hi', 'reference');
    expect(answer).toMatchObject({
      jsonrpc: '2.0',
      id: 1,
      result: { content: 'You said: Hi', session_id: 'reference' },
    });
    expect((await client.conversationStatus('reference')).result.status).toBe('idle');
    expect((await client.conversationCancel('reference')).result.cancelled).toBe(true);
    expect(await client.jsonrpcCall('no.such', {}, 7)).toMatchObject({ error: { code: -32601 }, id: 7 });
    const unauthorizedClient = new CodexGatewayClient(`${fixture.gateway.url}/`, 'wrong');
    expect(await unauthorizedClient.conversationStatus('s')).toMatchObject({ error: { code: 401 } });
  });
});

describe('an error', () => {
  it('an error has code, reason, status, request and advice', async () => {
    const unauthorizedClient = new CodexGatewayClient(fixture.gateway.url, 'wrong');
    const unauthorized = await failure(unauthorizedClient.call('conversation.status', STATUS));
    expect(unauthorized).toMatchObject({ code: 401, reason: 'unauthorized', status: 401, retryable: false });
    const missing = await failure(fixture.client().call('conversation.history', { session_id: 'none' }));
    expect(missing).toMatchObject({ code: 404, reason: 'not_found', status: 200, data: { session_id: 'none' } });
    expect(fixture.gateway.logged()).toContain(`"${missing.requestId}"`);
    const invalid = await failure(fixture.client().call('conversation.prompt', { prompt: '' }));
    expect(invalid).toMatchObject({ code: -32602, reason: 'invalid_params', data: { issues: [{ path: 'prompt' }] } });
  });

  it('an error of a server that is not the gateway is recognized by its status', async () => {
    const page = await startServer({ status: 404, headers: { 'content-type': 'text/html' }, body: '<html>' });
    const client = new CodexGatewayClient(page.url, KEY);
    expect(await failure(client.call('conversation.status', STATUS))).toMatchObject({
      reason: 'not_found',
      status: 404,
      code: 0,
    });
    const odd = await startServer({ body: '{"hello": 1}' });
    const error = await failure(new CodexGatewayClient(odd.url, KEY).call('conversation.status', STATUS));
    expect(error).toMatchObject({ reason: 'bad_response', status: 200, retryable: false });
    expect(odd.requestedAtMs).toHaveLength(1);
  });

  it('an error never shows the key, nor does the client', async () => {
    const secret = 'secret-key-12345';
    expect(inspect(new CodexGatewayClient('http://127.0.0.1:9', secret), { depth: 9, showHidden: true })).not.toContain(
      secret,
    );
    expect(() => new CodexGatewayClient('http://127.0.0.1:9', `${secret}\n`)).toThrow(/^(?!.*secret-key)/);
    const closed = new CodexGatewayClient('http://127.0.0.1:9', secret, { retries: 0 });
    const error = await failure(closed.call('conversation.status', STATUS));
    expect(error.reason).toBe('network');
    expect(inspect(error, { depth: 9 })).not.toContain(secret);
  });

  it('a redirect is an error: the key is not sent elsewhere', async () => {
    const other = await startServer(ok);
    const moved = await startServer({ status: 307, headers: { location: other.url }, body: '' });
    const client = new CodexGatewayClient(moved.url, KEY, { retries: 0 });
    expect(await failure(client.call('conversation.status', STATUS))).toMatchObject({ reason: 'network' });
    expect(other.requestedAtMs).toHaveLength(0);
  });
});

describe('a retry', () => {
  it('a retry after a lost answer runs a prompt once and returns the answer as if nothing had happened', async () => {
    const { provider, proxy, client } = fixture;
    const before = provider.calls;
    proxy.loseAnswer();
    const answer = await client().call('conversation.prompt', { prompt: 'once only', session_id: 'retried' });
    expect(answer.content).toBe('You said: once only');
    expect(provider.calls - before).toBe(1);
    expect((await client().call('conversation.history', { session_id: 'retried' })).messages).toHaveLength(2);
  });

  it('a retry is not made of what may have run and would run again', async () => {
    const { proxy, client } = fixture;
    proxy.loseAnswer();
    const before = fixture.gateway.logged().split('"auth.logout"').length;
    expect(await failure(client().call('auth.logout', { session_id: 'x' }))).toMatchObject({ reason: 'network' });
    expect(fixture.gateway.logged().split('"auth.logout"').length - before).toBe(1);
    const down = await startServer(refusal(503, 'unavailable', true));
    await failure(new CodexGatewayClient(down.url, KEY).call('auth.logout', { session_id: 'x' }));
    expect(down.requestedAtMs).toHaveLength(1);
  });

  it('a retry is sent no sooner than the gateway allows, in the body or the header', async () => {
    const header = { status: 503, headers: { 'retry-after': '1', 'content-type': 'text/html' }, body: 'try later' };
    const server = await startServer(refusal(429, 'rate_limited', true, 400), header, ok);
    const result = await new CodexGatewayClient(server.url, KEY).call('conversation.status', STATUS);
    expect(result).toMatchObject({ status: 'not_found' });
    const [first = 0, second = 0, third = 0] = server.requestedAtMs;
    expect(second - first).toBeGreaterThanOrEqual(399);
    expect(third - second).toBeGreaterThanOrEqual(999);
  });

  it('no retry is sent after the deadline, or for an error that is not retryable', async () => {
    const later = await startServer(refusal(429, 'rate_limited', true, 60_000));
    const error = await failure(
      new CodexGatewayClient(later.url, KEY).call('conversation.status', STATUS, { timeoutMs: 5_000 }),
    );
    expect(error).toMatchObject({ reason: 'rate_limited', retryAfterMs: 60_000 });
    expect(later.requestedAtMs).toHaveLength(1);
    for (const answer of [refusal(404, 'not_found', false), refusal(409, 'session_busy', true, 1)]) {
      const server = await startServer(answer);
      await failure(new CodexGatewayClient(server.url, KEY).call('conversation.prompt', { prompt: 'x' }));
      expect(server.requestedAtMs).toHaveLength(1);
    }
  });

  it('a retry of a real limit waits for its window', async () => {
    const limited = await createFixture({ GATEWAY_LIMITS: '2/second' });
    const calls = Array.from({ length: 5 }, () => limited.client().call('conversation.status', STATUS));
    expect(await Promise.all(calls)).toHaveLength(5);
    await limited.close();
  });

  it('a retry ends at the timeout of the caller', async () => {
    const down = await startServer(refusal(503, 'unavailable', true, 10_000));
    const stop = new AbortController();
    const call = new CodexGatewayClient(down.url, KEY).call('conversation.status', STATUS, { signal: stop.signal });
    const ended = expect(call).rejects.toThrow('enough');
    await expect.poll(() => down.requestedAtMs).toHaveLength(1);
    stop.abort(new Error('enough'));
    await ended;
    const hanging = fixture.client().call('conversation.prompt', { prompt: '[[hang]]' }, { timeoutMs: 200 });
    expect(await failure(hanging)).toMatchObject({ reason: 'timeout', code: 0 });
  });
});

it('the client connects to the WebSocket URL of its options; without WebSocket the error names the option', async () => {
  const socketUrl = `${fixture.gateway.url.replace('http', 'ws')}/ws`;
  const promptOver = (url: string) =>
    fixture.client({ streaming: 'websocket', socketUrl: url, retries: 0 }).stream({ prompt: 'Hi' }).answer();
  expect((await promptOver(socketUrl)).content).toBe('You said: Hi');
  expect(await failure(promptOver('ws://127.0.0.1:9/ws'))).toMatchObject({ reason: 'network' });
  vi.stubGlobal('WebSocket', undefined);
  expect(() => fixture.client({ streaming: 'websocket' })).toThrow(/no WebSocket: pass one in the options/);
  vi.unstubAllGlobals();
});

it('methods that the caller declares have types', async () => {
  type Own = Methods & { readonly 'no.such': { readonly params: { readonly name: string }; readonly result: string } };
  const client = new CodexGatewayClient<Own>(fixture.gateway.url, KEY);
  expect(await failure(client.call('no.such', { name: 'Ada' }))).toMatchObject({ reason: 'method_not_found' });
  // @ts-expect-error: the name is missing
  await failure(client.call('no.such', {}));
  // @ts-expect-error: no such method
  await failure(fixture.client().call('no.such', {}));
});

it('the messages of a session are read in both orders, over as many pages as it takes', async () => {
  const client = fixture.client();
  const session_id = 'iterated';
  for (let n = 0; n < 60; n++) await client.call('conversation.prompt', { prompt: `prompt ${n}`, session_id });
  const read = async (order?: 'newest') => {
    const messages = [];
    for await (const { seq, role } of client.messages(session_id, order && { order })) messages.push(`${seq} ${role}`);
    return messages;
  };
  const oldest = Array.from({ length: 120 }, (_, index) => `${index + 1} ${index % 2 === 0 ? 'user' : 'assistant'}`);
  expect(await read()).toEqual(oldest);
  expect(await read('newest')).toEqual(oldest.toReversed());
  const messages = client.messages('no-such-session');
  expect(await failure(messages.next())).toMatchObject({ reason: 'not_found' });
  const stop = new AbortController();
  const stopped = client.messages(session_id, { signal: stop.signal });
  await stopped.next();
  stop.abort();
  await expect(client.messages(session_id, { signal: stop.signal }).next()).rejects.toMatchObject({
    name: 'AbortError',
  });
});

it('the notifications of any streaming method reach the caller', async () => {
  const client = fixture.client();
  const stop = new AbortController();
  const seen: string[] = [];
  const read = (async () => {
    for await (const { method, params } of client.notifications('events.subscribe', {}, { signal: stop.signal })) {
      seen.push(method);
      if (method === 'events.subscribed') {
        await fetch(`${fixture.gateway.url}/webhook`, {
          method: 'POST',
          headers: { 'x-api-key': KEY },
          body: '{"event":"a.b"}',
        });
      } else {
        expect(params).toMatchObject({ event: 'a.b' });
        stop.abort();
      }
    }
  })();
  await expect(read).rejects.toMatchObject({ name: 'AbortError' });
  expect(seen).toEqual(['events.subscribed', 'event']);
});
