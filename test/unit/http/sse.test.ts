// `POST /jsonrpc` with `Accept: text/event-stream` passes the cases of every transport, and its stream adds only events
// to the answer.
import { once } from 'node:events';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pipeline } from 'node:stream';
import { createGzip } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Answer, CASE_KEYS, call, jsonRpcCases } from '../../cases/jsonrpc.cases.ts';
import { createCloudFixture } from '../../support/fixtures/gateway/forward.ts';
import { type InProcessGateway, startInProcess } from '../../support/fixtures/gateway/in-process.ts';

interface Streamed extends Answer {
  /** Every event of the stream in order, with its id. */
  readonly events: readonly { readonly id: string | undefined; readonly data: unknown }[];
}

async function post(
  gateway: Pick<InProcessGateway, 'url'>,
  body: string | Uint8Array,
  key: string,
  accept = 'text/event-stream',
): Promise<Streamed> {
  const response = await fetch(`${gateway.url}/jsonrpc`, {
    method: 'POST',
    headers: { 'x-api-key': key, accept },
    body: Buffer.from(body),
  });
  const { status, headers } = response;
  const text = await response.text();
  if (!headers.get('content-type')?.startsWith('text/event-stream')) {
    return { status, headers, payload: text === '' ? undefined : JSON.parse(text), events: [] };
  }
  const events = text
    .split('\n\n')
    .filter((block) => block !== '' && !block.startsWith(':'))
    .map((block) => ({
      id: /^id: (.*)$/m.exec(block)?.[1],
      data: JSON.parse(/^data: (.*)$/m.exec(block)?.[1] ?? '') as unknown,
    }));
  return { status, headers, payload: events.at(-1)?.data, events };
}

jsonRpcCases('SSE', async () => {
  const gateway = await startInProcess({ GATEWAY_KEYS: CASE_KEYS });
  return { call: (body, key = 'wide') => post(gateway, body, key), close: gateway.close };
});

jsonRpcCases('SSE of a function whose companion runs turns', async () => {
  const cloud = await createCloudFixture({ GATEWAY_KEYS: CASE_KEYS }, 'companion');
  return { call: (body, key = 'wide') => post(cloud, body, key), close: cloud.close };
});

describe('a streamed answer', () => {
  let gateway: InProcessGateway;
  beforeAll(async () => {
    gateway = await startInProcess({ GATEWAY_KEYS: CASE_KEYS });
  });
  afterAll(() => gateway.close());

  it.each([
    ['conversation.prompt', { prompt: 'hi' }],
    ['events.subscribe', {}],
  ])('a streamed answer is not given to a notification, which is answered with 204: %s', async (method, params) => {
    const body = JSON.stringify({ jsonrpc: '2.0', method, params });
    expect(await post(gateway, body, 'wide')).toMatchObject({ status: 204, payload: undefined, events: [] });
  });

  it.each([
    ['text/event-stream', true],
    ['application/json, TEXT/EVENT-STREAM;q=0.9', true],
    ['text/event-stream; charset=utf-8', true],
    ['text/event-stream;q=0, application/json', false],
    ['text/event-stream; q=0.000', false],
    ['application/x-text/event-stream', false],
    ['*/*', false],
  ])('a streamed answer is given to who accepts it: %s', async (accept, streams) => {
    const body = JSON.stringify(call('conversation.prompt', { prompt: 'hi' }));
    const { status, events } = await post(gateway, body, 'wide', accept);
    expect([status, events.length > 0]).toEqual([200, streams]);
  });

  it('a streamed answer is a turn’s events, numbered, then the ordinary response, under the headers of any answer', async () => {
    const { headers, events } = await post(
      gateway,
      JSON.stringify(call('conversation.prompt', { prompt: 'hi' })),
      'wide',
    );
    expect(headers?.get('x-ratelimit-limit')).toBe('100000');
    expect(headers?.get('x-request-id')).toMatch(/^req_/);
    const notifications = events.slice(0, -1);
    expect(notifications.length).toBeGreaterThan(2);
    for (const [n, { id, data }] of notifications.entries()) {
      expect(data).toMatchObject({ jsonrpc: '2.0', method: 'conversation.event', params: { seq: n + 1 } });
      expect(data).not.toHaveProperty('id');
      const { turn_id } = (data as { readonly params: { readonly turn_id: string } }).params;
      expect(id).toBe(`${turn_id}:${n + 1}`);
    }
    expect(notifications.at(0)?.data).toMatchObject({ params: { event: { TaskStarted: {} } } });
    expect(notifications.at(-1)?.data).toMatchObject({ params: { event: { TaskComplete: {} } } });
    expect(events.at(-1)).toMatchObject({ id: undefined, data: { id: 1, result: { type: 'ai_response' } } });
  });

  it('a streamed answer of a call that streams nothing is the response alone', async () => {
    const { events } = await post(gateway, JSON.stringify(call('conversation.status', { session_id: 'none' })), 'wide');
    expect(events).toMatchObject([{ data: { id: 1, result: { status: 'not_found' } } }]);
  });

  it('a streamed answer has no line end of Unicode within an event: U+0085, U+2028 and U+2029 are escaped', async () => {
    const prompt = 'a\u0085b\u2028c\u2029d';
    const body = JSON.stringify(call('conversation.prompt', { prompt, model: 'offline/echo' }));
    const response = await fetch(`${gateway.url}/jsonrpc`, {
      method: 'POST',
      headers: { 'x-api-key': 'wide', accept: 'text/event-stream' },
      body,
    });
    const text = await response.text();
    expect(text).not.toMatch(/[\u0085\u2028\u2029]/);
    expect(text).toContain('a\\u0085b\\u2028c\\u2029d');
  });

  it('a streamed answer has no line end of Unicode in an event that many readers share', async () => {
    const left = new AbortController();
    const headers = { 'x-api-key': 'wide', accept: 'text/event-stream' };
    const { body } = await fetch(`${gateway.url}/jsonrpc`, {
      method: 'POST',
      headers,
      body: JSON.stringify(call('events.subscribe', {})),
      signal: left.signal,
    });
    const reader = body?.getReader();
    const first = await reader?.read();
    await fetch(`${gateway.url}/webhook`, {
      method: 'POST',
      headers,
      body: '{"event":"lines","data":{"a":"b\u2028c"}}',
    });
    let text = Buffer.from(first?.value ?? []).toString();
    while (!text.includes('lines')) text += Buffer.from((await reader?.read())?.value ?? []).toString();
    left.abort();
    expect(text).toContain('b\\u2028c');
    expect(text).not.toContain('\u2028');
  });

  it('a streamed answer passes a proxy that compresses, piece by piece', async () => {
    const proxy = createServer((req, res) => {
      const upstream = request(`${gateway.url}${req.url}`, { method: 'POST', headers: req.headers }, (answer) => {
        // As the `compression` middleware decides; a compressor buffers its output until a flush.
        const isFree = /(?:^|,)\s*?no-transform\s*?(?:,|$)/.test(answer.headers['cache-control'] ?? '');
        res.writeHead(200, { ...answer.headers, ...(!isFree && { 'content-encoding': 'gzip' }) });
        pipeline(isFree ? [answer, res] : [answer, createGzip(), res], () => {});
      });
      req.pipe(upstream);
    }).listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    const { port } = proxy.address() as AddressInfo;
    const left = new AbortController();
    const response = await fetch(`http://127.0.0.1:${port}/jsonrpc`, {
      method: 'POST',
      headers: { 'x-api-key': 'wide', accept: 'text/event-stream' },
      body: JSON.stringify(call('conversation.prompt', { prompt: 'x '.repeat(500), model: 'offline/slow' })),
      signal: left.signal,
    });
    const first = await response.body?.getReader().read();
    // The turn has hardly begun.
    expect(Buffer.from(first?.value ?? []).toString()).toContain('TaskStarted');
    left.abort();
    proxy.closeAllConnections();
    proxy.close();
  });

  it('a streamed answer is no stream at all where the request is refused: the status reports it', async () => {
    const { status, headers, events } = await post(gateway, '{', 'wide');
    expect({ status, events }).toEqual({ status: 400, events: [] });
    expect(headers?.get('content-type')).toMatch(/^application\/json/);
    expect((await post(gateway, '{}', 'nobody')).status).toBe(401);
  });
});
