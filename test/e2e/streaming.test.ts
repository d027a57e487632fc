// A prompt over Server-Sent Events has the specified format and headers, checked byte by byte, and does not depend on a
// client that leaves or reads slowly.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type ModelProvider, startModelProvider } from '../support/fakes/model-provider/model-provider.ts';
import { follow, rpc, textOf, until } from '../support/fixtures/clients/turn-client.ts';
import { type InProcessGateway, startInProcess } from '../support/fixtures/gateway/in-process.ts';

let provider: ModelProvider;
let gateway: InProcessGateway;
let url: string;
beforeAll(async () => {
  provider = await startModelProvider();
  gateway = await startInProcess({
    GATEWAY_LIMITS: '100000/minute',
    ANTHROPIC_API_KEY: 'sk-test',
    ANTHROPIC_BASE_URL: provider.url,
    MODEL: 'anthropic/claude-sonnet-4-5',
  });
  url = gateway.url;
});
afterAll(async () => {
  await gateway.close();
  await provider.close();
});

function post(body: unknown, headers: Readonly<Record<string, string>> = {}): Promise<Response> {
  return fetch(`${url}/jsonrpc`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-api-key': 'dev-key', accept: 'text/event-stream', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
}

const prompt = (params: object, id: number | string = 1) => ({
  jsonrpc: '2.0',
  method: 'conversation.prompt',
  params,
  id,
});

it('a stream has numbered events, each with its id, and the ordinary response last', async () => {
  const response = await post(prompt({ prompt: '[[chunks 3 every 5]]', session_id: 'format' }, 'call-7'));
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
  expect(response.headers.get('cache-control')).toBe('no-store, no-transform');
  expect(response.headers.get('x-ratelimit-remaining')).toMatch(/^\d+$/);
  expect(response.headers.get('x-gateway-overhead-ms')).toMatch(/^\d+(\.\d+)?$/);
  const blocks = (await response.text()).split('\n\n').filter((block) => block !== '');
  const last = JSON.parse(blocks.at(-1)?.replace(/^data: /, '') ?? '');
  expect(last).toMatchObject({ jsonrpc: '2.0', id: 'call-7', result: { type: 'ai_response', content: '0 1 2 ' } });
  const { turn_id, conversation_id } = last.result;
  const messages = blocks.slice(0, -1).map((block, index) => {
    const [, id, data] = /^id: (.+)\ndata: (.+)$/.exec(block) ?? [];
    expect(id).toBe(`${turn_id}:${index + 1}`);
    return JSON.parse(data ?? '');
  });
  for (const [index, message] of messages.entries()) {
    expect(message).toMatchObject({
      jsonrpc: '2.0',
      method: 'conversation.event',
      params: { session_id: 'format', conversation_id, turn_id, seq: index + 1 },
    });
    expect(message).not.toHaveProperty('id');
  }
  expect(messages.map(({ params }) => Object.keys(params.event)[0])).toEqual([
    'TaskStarted',
    'AgentMessageDelta',
    'AgentMessageDelta',
    'AgentMessageDelta',
    'TokenCount',
    'AgentMessage',
    'TaskComplete',
  ]);
});

it('a disconnect cancels no turn; a client that resumes receives every event exactly once', async () => {
  const session_id = 'comes-back';
  const requested = provider.next();
  const first = follow(url, 'conversation.prompt', { prompt: '[[chunks 40 every 20]]', session_id });
  await first.until(8);
  first.abort();
  await first.answer;
  const last = first.events.at(-1);
  const second = follow(url, 'conversation.resume', { session_id }, { 'last-event-id': last?.id ?? '' });
  const { result } = (await second.answer) ?? {};
  expect(await (await requested).done).toMatchObject({ by: 'server' });
  const all = [...first.events, ...second.events];
  expect(all.map(({ seq }) => seq)).toEqual(all.map((_, index) => index + 1));
  expect(result).toMatchObject({ status: 'completed', content: textOf(all), last_seq: all.length });
  const later = follow(url, 'conversation.resume', { session_id });
  await later.answer;
  expect(later.events).toEqual(all);
});

it.each([
  ['in its session', { session_id: 'same-request' }],
  ['in a session that the gateway named', {}],
])(
  'the request of a stream that was cut, made again with Last-Event-ID, continues with its turn: %s',
  async (_, where) => {
    const calls = provider.calls;
    const params = { prompt: '[[chunks 40 every 20]]', ...where };
    const first = follow(url, 'conversation.prompt', params);
    await first.until(8);
    first.abort();
    await first.answer;
    const second = follow(url, 'conversation.prompt', params, { 'last-event-id': first.events.at(-1)?.id ?? '' });
    const { result } = (await second.answer) ?? {};
    const all = [...first.events, ...second.events];
    expect(all.map(({ seq }) => seq)).toEqual(all.map((_, index) => index + 1));
    expect(result).toMatchObject({ type: 'ai_response', content: textOf(all) });
    // After its end, too.
    const again = follow(url, 'conversation.prompt', params, { 'last-event-id': all.at(-2)?.id ?? '' });
    expect((await again.answer)?.result).toEqual(result);
    expect(again.events).toEqual(all.slice(-1));
    expect(provider.calls).toBe(calls + 1);
  },
);

it('a Last-Event-ID of another key’s turn is that of no turn', async () => {
  const foreign = await startInProcess({ GATEWAY_API_KEY: 'dev-key', GATEWAY_LIMITS: '100000/minute' });
  const { result } = await rpc(url, 'conversation.prompt', { prompt: 'mine' });
  const headers = { 'last-event-id': `${result?.turn_id}:1` };
  const response = await follow(url, 'conversation.prompt', { prompt: 'x', session_id: 'other' }, headers).answer;
  const missing = await follow(foreign.url, 'conversation.prompt', { prompt: 'x' }, headers).answer;
  expect(response?.error).toMatchObject({ code: 404 });
  expect(missing?.error).toMatchObject({ code: 404 });
  await foreign.close();
});

it('an answer that the model cut has another status than one that it ended', async () => {
  for (const [prompt, finish_reason] of [
    ['[[length]]', 'length'],
    ['[[refuse]]', 'content_filter'],
  ] as const) {
    const { events, answer } = follow(url, 'conversation.prompt', { prompt });
    expect((await answer)?.result).toMatchObject({ type: 'ai_response', finish_reason });
    expect(events.at(-1)?.event).toMatchObject({ TaskComplete: { finish_reason } });
  }
  const { result } = await rpc(url, 'conversation.prompt', { prompt: 'whole' });
  expect(result).not.toHaveProperty('finish_reason');
});

it('a resume without a stream returns the state of the turn, while it runs and after', async () => {
  const session_id = 'plain';
  const gate = Promise.withResolvers<void>();
  const chunks = Array.from({ length: 20 }, (_, index) => `${index} `);
  provider.behave(() => ({ chunks, everyMs: 20, gate: async (index) => (index === 4 ? gate.promise : undefined) }));
  const running = follow(url, 'conversation.prompt', { prompt: 'count', session_id });
  await running.until(5);
  const { result: during } = await rpc(url, 'conversation.resume', { session_id, after_seq: 2 });
  expect(during).toMatchObject({ status: 'running' });
  expect(during?.events).toMatchObject([{ seq: 3 }, { seq: 4 }, { seq: 5 }]);
  gate.resolve();
  await running.answer;
  provider.behave();
  const { result: after } = await rpc(url, 'conversation.resume', { session_id, after_seq: 5 });
  expect(after).toMatchObject({ status: 'completed', content: textOf(running.events) });
  expect(after?.events).toMatchObject(running.events.slice(5).map(({ seq, event }) => ({ seq, event })));
});

it('a Last-Event-ID that is none is refused', async () => {
  const response = await post(
    { jsonrpc: '2.0', method: 'conversation.resume', params: { session_id: 'plain' }, id: 1 },
    { 'last-event-id': 'not an id' },
  );
  expect(await response.text()).toContain('"Last-Event-ID"');
});

it('what fails before a method is answered with its own status, and a failed turn in the stream', async () => {
  expect((await post('{')).status).toBe(400);
  expect((await post(prompt({}), { 'x-api-key': 'wrong' })).status).toBe(401);
  const failed = follow(url, 'conversation.prompt', { prompt: '[[chunks 4 every 5]] [[cut]]', session_id: 'fails' });
  const { error } = (await failed.answer) ?? {};
  expect(error).toMatchObject({ code: 502, data: { reason: 'upstream_error' } });
  expect(failed.events.at(-1)?.event).toMatchObject({ Error: { reason: 'upstream_error' } });
});

it('a batch is streamed: events of all its prompts, then one array', async () => {
  const response = await post([
    prompt({ prompt: 'a', session_id: 'batch-a' }, 1),
    prompt({ prompt: 'b', session_id: 'batch-b' }, 2),
    { jsonrpc: '2.0', method: 'conversation.status', params: { session_id: 'none' }, id: 3 },
  ]);
  const blocks = (await response.text()).split('\n\n').filter((block) => block !== '');
  const last = JSON.parse(blocks.at(-1)?.replace(/^data: /, '') ?? '');
  expect(last).toMatchObject([
    { id: 1, result: { content: 'You said: a' } },
    { id: 2, result: { content: 'You said: b' } },
    { id: 3, result: { status: 'not_found' } },
  ]);
  const text = blocks.join('\n');
  for (const session of ['batch-a', 'batch-b']) expect(text).toContain(`"session_id":"${session}"`);
});

it('a reader that does not read holds up only itself: the turn ends, the gateway’s memory stays bounded', async () => {
  const session_id = 'slow';
  const body = JSON.stringify(prompt({ prompt: '[[size 3500000]]', session_id }));
  const socket: Socket = connect(Number(new URL(url).port), '127.0.0.1');
  await once(socket, 'connect');
  socket.pause();
  socket.write(
    `POST /jsonrpc HTTP/1.1\r\nHost: localhost\r\nX-API-Key: dev-key\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
  await until(
    () => rpc(url, 'conversation.status', { session_id }),
    ({ result }) => (result?.turn as { status?: string } | undefined)?.status === 'completed',
  );
  let received = 0;
  socket.on('data', (chunk: Buffer) => {
    received += chunk.length;
    if (chunk.includes('"type":"ai_response"')) socket.destroy();
  });
  socket.resume();
  await once(socket, 'close');
  // Everything was there to be read in the end: the deltas, the message and the answer.
  expect(received).toBeGreaterThan(3_500_000 * 2);
});

it('the time of each phase is in the header and in the log', async () => {
  const startMs = performance.now();
  const response = await post(prompt({ prompt: '[[delay 300]]', session_id: 'meter' }), { accept: 'application/json' });
  await response.json();
  const tookMs = performance.now() - startMs;
  expect(Number(response.headers.get('x-gateway-overhead-ms'))).toBeLessThan(tookMs - 295);
  const line = gateway
    .logged()
    .split('\n')
    .findLast((text) => text.includes('"method":"conversation.prompt"'));
  const { stages } = JSON.parse(line ?? '{}');
  expect(stages.model).toBeGreaterThanOrEqual(295);
  expect(Object.keys(stages)).toEqual(['limit', 'admission', 'model', 'settle']);
});
