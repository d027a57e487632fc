// An answer that cannot be serialised or is too large is the error of its own call on every transport: the others keep
// their answers, streams end and sockets stay open.
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import WebSocket from 'ws';
import { z } from 'zod';
import { attachWebSocket } from '../../../functions/companion/server.ts';
import { createJsonRpcHandler } from '../../../functions/jsonrpc/handler.ts';
import { createHttpServer } from '../../../functions/server/node-server.ts';
import { loadConfig } from '../../../shared/config/load-config.ts';
import { createServices } from '../../../shared/create-services.ts';
import { createGateway } from '../../../shared/gateway.ts';
import { createLogger } from '../../../shared/log.ts';
import { defineMethod } from '../../../shared/methods/define-method.ts';
import { FrameSchema } from '../../../shared/proto/gateway_pb.ts';
import { createRegistry } from '../../../shared/rpc/method.ts';

const MIB = 1 << 20;

function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let level = 0; level < depth; level++) value = [value];
  return value;
}

const cycle: { self?: unknown } = {};
cycle.self = cycle;
const BAD: Readonly<Record<string, unknown>> = {
  cycle,
  bigint: 1n,
  deep: nested(200_000),
  thrower: {
    toJSON() {
      throw new Error('secret-cause');
    },
  },
};

const common = { scope: 'conversation', cost: 'work' } as const;
const answer = defineMethod({
  ...common,
  name: 'test.answer',
  summary: 'Answers with what cannot be serialised, or with so many characters',
  params: z.strictObject({ kind: z.string().optional(), chars: z.int().optional(), text: z.string().default('x') }),
  result: z.object({ value: z.unknown() }),
  example: { params: {}, result: { value: 1 } },
  async handle({ kind, chars, text }) {
    return { value: kind === undefined ? text.repeat(chars ?? 1) : BAD[kind] };
  },
});
const notified = defineMethod({
  ...common,
  name: 'test.notify',
  summary: 'Sends a notification that cannot be serialised',
  params: z.strictObject({ kind: z.string() }),
  result: z.object({ value: z.unknown() }),
  example: { params: { kind: 'cycle' }, result: { value: 1 } },
  async handle({ kind }, { notify }) {
    await notify('test.event', { value: BAD[kind] });
    return { value: 1 };
  },
});
/** Replaces the real method: its answer has the length that the name of the session contains. */
const prompt = defineMethod({
  ...common,
  name: 'conversation.prompt',
  summary: 'Answers a prompt',
  example: { params: { session_id: '1', prompt: 'hi' }, result: {} },
  params: z.strictObject({ session_id: z.string(), prompt: z.string() }),
  result: z.record(z.string(), z.unknown()),
  async handle({ session_id }) {
    if (session_id === 'bad') return { content: 1n };
    const usage = { input_tokens: 1, output_tokens: 1, total_tokens: 2 };
    const names = { session_id: 's', turn_id: 't', conversation_id: 'c', model: 'm', timestamp: '' };
    return { content: 'x'.repeat(Number(session_id)), events: [], usage, ...names };
  },
});

type Response = { id: unknown; result?: { value: unknown }; error?: { code: number; data: Record<string, unknown> } };
let base = '';
const logged: string[] = [];
let close: () => Promise<void>;

beforeAll(async () => {
  const config = loadConfig({ GATEWAY_STORE: 'memory', GATEWAY_BUS: 'local', GATEWAY_LIMITS: '100000/minute' });
  const log = createLogger({ format: 'json', write: (text) => logged.push(text) });
  const services = await createServices(config, { log });
  const gateway = createGateway(services, createRegistry([answer, notified, prompt]));
  const server = createHttpServer(createJsonRpcHandler(services, gateway));
  const sockets = attachWebSocket(server, services, gateway);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  base = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  close = async () => {
    sockets.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await services.close();
  };
});
afterAll(() => close());

const call = (params: object, id: unknown = 1, method = 'test.answer'): object => ({
  jsonrpc: '2.0',
  method,
  params,
  id,
});

async function post(body: unknown, accept = 'application/json') {
  const response = await fetch(`http://${base}/jsonrpc`, {
    method: 'POST',
    headers: { 'x-api-key': 'dev-key', accept },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, text };
}
const single = async (body: object): Promise<Response> => JSON.parse((await post(body)).text);
const batch = async (body: readonly object[]): Promise<Response[]> => JSON.parse((await post(body)).text);
async function streamed(body: unknown): Promise<unknown> {
  const { text } = await post(body, 'text/event-stream');
  return JSON.parse(/data: (.*)\n\n$/.exec(text)?.[1] ?? text);
}

async function openSocket() {
  const socket = new WebSocket(`ws://${base}/ws`, { headers: { 'x-api-key': 'dev-key' } });
  await once(socket, 'open');
  return {
    socket,
    async request(message: string | Uint8Array): Promise<Buffer> {
      socket.send(message);
      const [data] = await once(socket, 'message');
      return data;
    },
  };
}

describe.each(Object.keys(BAD))('an answer that cannot be serialised (%s)', (kind) => {
  const internal = { error: { code: -32603, message: 'Internal error', data: { reason: 'internal' } } };

  it('an answer that cannot be serialised is that call’s -32603, alone, in a batch, in a stream and on a socket', async () => {
    expect(await post(call({ kind }))).toMatchObject({ status: 500 });
    expect(await single(call({ kind }))).toMatchObject({ id: 1, ...internal });
    expect(await batch([call({ text: 'a' }, 'a'), call({ kind }, 'b'), call({ text: 'c' }, 'c')])).toMatchObject([
      { id: 'a', result: { value: 'a' } },
      { id: 'b', ...internal },
      { id: 'c', result: { value: 'c' } },
    ]);
    expect(await streamed(call({ kind }))).toMatchObject({ id: 1, ...internal });
    const { socket, request } = await openSocket();
    expect(JSON.parse(String(await request(JSON.stringify(call({ kind })))))).toMatchObject(internal);
    expect(JSON.parse(String(await request(JSON.stringify(call({ text: 'b' })))))).toMatchObject({
      result: { value: 'b' },
    });
    socket.close();
    expect(logged.join('')).not.toContain('could not be handled');
  });

  it('a notification that cannot be serialised is that call’s -32603; the stream ends, the socket stays', async () => {
    expect(await streamed(call({ kind }, 1, 'test.notify'))).toMatchObject({ id: 1, ...internal });
    const { socket, request } = await openSocket();
    expect(JSON.parse(String(await request(JSON.stringify(call({ kind }, 1, 'test.notify')))))).toMatchObject(internal);
    expect(JSON.parse(String(await request(JSON.stringify(call({}, 2)))))).toMatchObject({
      id: 2,
      result: { value: 'x' },
    });
    socket.close();
  });
});

describe('a large answer', () => {
  const tooLarge = { error: { code: 413, data: { reason: 'payload_too_large', carried_out: true, retryable: false } } };

  it('a large answer of at most 1 MiB leaves a socket, a larger one is that call’s error', async () => {
    const { socket, request } = await openSocket();
    const small = await request(JSON.stringify(call({ chars: MIB - 200 })));
    expect(small.length).toBeLessThanOrEqual(MIB);
    expect(JSON.parse(String(small))).toMatchObject({ result: {} });
    const answer = JSON.parse(String(await request(JSON.stringify(call({ chars: MIB }, 2)))));
    expect(answer).toMatchObject({ id: 2, ...tooLarge });
    expect(answer.error.message).toContain('its effect is stored');
    const controls = JSON.parse(String(await request(JSON.stringify(call({ chars: MIB / 4, text: '\u0001' }, 3)))));
    expect(controls).toMatchObject({ id: 3, ...tooLarge });
    socket.close();
  });

  it('a large answer as a binary frame is measured as a frame', async () => {
    const { socket, request } = await openSocket();
    const submit = async (streamId: string) => {
      const body = { case: 'submission' as const, value: { prompt: 'hi' } };
      return fromBinary(
        FrameSchema,
        await request(toBinary(FrameSchema, create(FrameSchema, { id: 'f', streamId, body }))),
      );
    };
    expect((await submit(String(MIB - 200))).body.case).toBe('reply');
    expect(await submit(String(MIB))).toMatchObject({
      id: 'f',
      body: { case: 'error', value: { code: 413, reason: 'payload_too_large' } },
    });
    expect(await submit('bad')).toMatchObject({ body: { case: 'error', value: { code: -32603 } } });
    socket.close();
  });

  it('a large answer over HTTP has at most 8 MiB, in a stream too', async () => {
    expect((await post(call({ chars: 8 * MIB - 200 }))).status).toBe(200);
    expect(await single(call({ chars: 8 * MIB }))).toMatchObject(tooLarge);
    expect((await post(call({ chars: 8 * MIB }))).status).toBe(200);
    expect(await streamed(call({ chars: 8 * MIB }))).toMatchObject(tooLarge);
  });

  it.each([
    ['HTTP', 8],
    ['WebSocket', 1],
  ] as const)('a large answer of a batch ends where its bytes do, every call answered: %s', async (transport, mib) => {
    const calls = Array.from({ length: 50 }, (_, n) =>
      call({ chars: Math.floor(MIB / 5) }, `${n}-${'\u0001'.repeat(120)}`),
    );
    const { socket, request } = await openSocket();
    const text = transport === 'HTTP' ? (await post(calls)).text : String(await request(JSON.stringify(calls)));
    socket.close();
    expect(text.length).toBeLessThanOrEqual(mib * MIB);
    expect(text.length).toBeGreaterThan((mib - 0.5) * MIB);
    const answers: Response[] = JSON.parse(text);
    expect(answers.map(({ id }) => Number.parseInt(String(id), 10))).toEqual(Array.from({ length: 50 }, (_, n) => n));
    const refused = answers.filter(({ error }) => error !== undefined);
    expect(refused.length).toBeGreaterThan(5);
    for (const { error } of refused)
      expect({ error }).toMatchObject({ error: { data: { reason: 'payload_too_large' } } });
  });
});
