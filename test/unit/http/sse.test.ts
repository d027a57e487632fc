// `POST /jsonrpc` with `Accept: text/event-stream`: the cases of every transport, and what a stream adds to an answer.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Answer, CASE_KEYS, call, jsonRpcCases } from '../../cases/jsonrpc.cases.ts';
import { type InProcessGateway, startInProcess } from '../../support/in-process.ts';

interface Streamed extends Answer {
  /** Every event of the stream in order, with its id. */
  readonly events: readonly { readonly id: string | undefined; readonly data: unknown }[];
}

async function post(
  gateway: InProcessGateway,
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

describe('a streamed answer', () => {
  let gateway: InProcessGateway;
  beforeAll(async () => {
    gateway = await startInProcess({ GATEWAY_KEYS: CASE_KEYS });
  });
  afterAll(() => gateway.close());

  it.each([
    ['conversation.prompt', { prompt: 'hi' }],
    ['events.subscribe', {}],
  ])('is not given to a notification, which is answered with 204: %s', async (method, params) => {
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
  ])('is given to who accepts it: %s', async (accept, streams) => {
    const body = JSON.stringify(call('conversation.prompt', { prompt: 'hi' }));
    const { status, events } = await post(gateway, body, 'wide', accept);
    expect([status, events.length > 0]).toEqual([200, streams]);
  });

  it('is a turn’s events, numbered, then the ordinary response, under the headers of any answer', async () => {
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

  it('of a call that streams nothing is the response alone', async () => {
    const { events } = await post(gateway, JSON.stringify(call('conversation.status', { session_id: 'none' })), 'wide');
    expect(events).toMatchObject([{ data: { id: 1, result: { status: 'not_found' } } }]);
  });

  it('is no stream at all where the request is refused: the status says so', async () => {
    const { status, headers, events } = await post(gateway, '{', 'wide');
    expect({ status, events }).toEqual({ status: 400, events: [] });
    expect(headers?.get('content-type')).toMatch(/^application\/json/);
    expect((await post(gateway, '{}', 'nobody')).status).toBe(401);
  });
});
