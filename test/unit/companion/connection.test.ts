// One WebSocket connection bounds its calls and the bytes that its client leaves unread, and the server closes it when
// its key expires, its client is silent, or its instance ends.
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import WebSocket from 'ws';
import { z } from 'zod';
import { defineMethod, type MethodContext } from '../../../shared/methods/define-method.ts';
import { setRevoked } from '../../../shared/rate-limit/windows/limit-document.ts';
import type { AnyMethod } from '../../../shared/rpc/method.ts';
import { frame, OPCODE, openRaw } from '../../support/fixtures/clients/frames.ts';
import {
  type Client,
  clientOf,
  createChangingKeys,
  createFixture,
  digestOf,
  type Fixture,
  type FixtureOptions,
  KEY,
  refusal,
} from '../../support/fixtures/gateway/companion.ts';
import { untilStable } from '../../support/fixtures/until-stable.ts';

const open: Fixture[] = [];
async function fixtureOf(options: FixtureOptions = {}): Promise<Fixture> {
  const fixture = await createFixture(options);
  open.push(fixture);
  return fixture;
}
afterEach(async () => {
  await Promise.all(open.splice(0).map((fixture) => fixture.close()));
});

const base = {
  summary: 'test',
  scope: null,
  cost: 'read',
  result: z.object({}).loose(),
  example: { params: {}, result: {} },
} as const;

/** A method whose calls wait until the test lets them go. */
function createGate() {
  const waiting: (() => void)[] = [];
  let changed = Promise.withResolvers<void>();
  let aborted = 0;
  const method: AnyMethod<MethodContext> = defineMethod({
    ...base,
    name: 'test.wait',
    params: z.strictObject({ n: z.number().optional() }),
    async handle({ n }, { signal }) {
      signal.addEventListener('abort', () => {
        aborted++;
        changed.resolve();
      });
      await new Promise<void>((resolve) => {
        waiting.push(resolve);
        changed.resolve();
      });
      return { n };
    },
  });
  const until = async (holds: () => boolean): Promise<void> => {
    while (!holds()) {
      await changed.promise;
      changed = Promise.withResolvers();
    }
  };
  return {
    method,
    /** Calls that have begun and not been let go. */
    waiting,
    begun: (count: number) => until(() => waiting.length >= count),
    aborted: (count: number) => until(() => aborted >= count),
    letGo: () => {
      for (const go of waiting.splice(0)) go();
    },
  };
}

/** Sends notifications of 64 KiB, or of the given size, while the client accepts them, and counts them. */
function createFlood() {
  const state = { sent: 0, ended: false };
  const method: AnyMethod<MethodContext> = defineMethod({
    ...base,
    name: 'test.flood',
    params: z.strictObject({ messages: z.number().default(1e9), bytes: z.number().default(64 << 10) }),
    async handle({ messages, bytes }, { notify, signal }) {
      const data = 'x'.repeat(bytes);
      while (state.sent < messages && !signal.aborted) {
        await notify('test.data', { n: state.sent, data });
        state.sent++;
      }
      state.ended = true;
      return { sent: state.sent };
    },
  });
  return { state, method };
}

const call = (id: number, method = 'test.wait', params: object = { n: id }): object => ({
  jsonrpc: '2.0',
  method,
  params,
  id,
});
const responses = (client: Client) => client.received.filter(({ id }) => id !== undefined);

describe('calls', () => {
  it('calls run concurrently, 32 at a time, the rest in order', async () => {
    const gate = createGate();
    const fixture = await fixtureOf({ methods: [gate.method] });
    const client = await fixture.connect();
    for (let id = 1; id <= 40; id++) client.send(call(id));
    await gate.begun(32);
    // A ping overtakes what waits: when it is answered, all messages have been read.
    client.socket.ping();
    await once(client.socket, 'pong');
    expect(gate.waiting).toHaveLength(32);
    gate.letGo();
    await gate.begun(8);
    gate.letGo();
    await client.until(({ id }) => id === 40);
    expect(new Set(responses(client).map(({ id }) => id)).size).toBe(40);
  });

  it('calls do not delay a cancel when all places are taken, but other messages that contain the word', async () => {
    const gate = createGate();
    const fixture = await fixtureOf({ methods: [gate.method] });
    const client = await fixture.connect();
    for (let id = 1; id <= 33; id++) client.send(call(id));
    await gate.begun(32);
    client.send({ ...call(34), id: 'conversation.cancel' });
    client.send(call(35, 'conversation.cancel', { session_id: 'none' }));
    expect(await client.until(({ id }) => id !== undefined)).toMatchObject({ id: 35, result: { status: 'not_found' } });
    expect(gate.waiting).toHaveLength(32);
    gate.letGo();
    await gate.begun(2);
    gate.letGo();
    await client.until(({ id }) => id === 'conversation.cancel');
  });

  it('calls that find no place are refused one by one, with a hint, and nothing is lost of the others', async () => {
    const gate = createGate();
    const fixture = await fixtureOf({ methods: [gate.method] });
    const client = await fixture.connect();
    for (let id = 1; id <= 300; id++) client.send(call(id));
    const refused = await client.until(({ error }) => error !== undefined);
    expect(refused.error).toMatchObject({
      code: 503,
      data: { reason: 'unavailable', limit: 32, retryable: true, retry_after_ms: 1_000 },
    });
    await client.until(({ id }) => id === 300);
    expect(
      responses(client)
        .map(({ id }) => Number(id))
        .sort((a, b) => a - b)[0],
    ).toBe(289);
    while (responses(client).length < 300) {
      gate.letGo();
      await client.until(() => true);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(responses(client).filter(({ error }) => error !== undefined)).toHaveLength(12);
  });

  it('calls of a batch count each, run 8 at a time, are answered together, and larger batches run alone', async () => {
    const gate = createGate();
    const fixture = await fixtureOf({ methods: [gate.method] });
    const client = await fixture.connect();
    client.send(call(1));
    client.send(Array.from({ length: 50 }, (_, index) => call(100 + index)));
    client.send(call(2));
    await gate.begun(1);
    client.socket.ping();
    await once(client.socket, 'pong');
    expect(gate.waiting).toHaveLength(1);
    gate.letGo();
    for (let left = 50; left > 0; left -= 8) {
      await gate.begun(Math.min(8, left));
      expect(gate.waiting).toHaveLength(Math.min(8, left));
      gate.letGo();
    }
    await gate.begun(1);
    gate.letGo();
    await client.until(({ id }) => id === 2);
    expect(responses(client).map(({ id }) => id)).toEqual([
      1,
      ...Array.from({ length: 50 }, (_, index) => 100 + index),
      2,
    ]);
  });

  it('calls without an id are never answered, whether they succeed or fail', async () => {
    const fixture = await fixtureOf({ env: { GATEWAY_LIMITS: '4/hour' } });
    const client = await fixture.connect();
    client.send({ jsonrpc: '2.0', method: 'no.such.method' });
    client.send({ jsonrpc: '2.0', method: 'conversation.status', params: { wrong: 1 } });
    client.send([{ jsonrpc: '2.0', method: 'conversation.list' }]);
    await client.call('conversation.list');
    // The limit is reached.
    client.send({ jsonrpc: '2.0', method: 'conversation.list' });
    client.send([{ jsonrpc: '2.0', method: 'conversation.list' }]);
    const limited = await client.call('conversation.list');
    expect(limited.error).toMatchObject({ code: 429, data: { reason: 'rate_limited', limit: 4, remaining: 0 } });
    expect(limited.error?.data.retry_after_ms).toBeGreaterThan(0);
    expect(limited.error?.data.reset).toBeGreaterThan(Date.now() / 1_000);
    expect(client.received).toHaveLength(2);
  });

  it('calls are aborted when the connection ends', async () => {
    const gate = createGate();
    const fixture = await fixtureOf({ methods: [gate.method] });
    const client = await fixture.connect();
    client.send(call(1));
    client.send(call(2));
    await gate.begun(2);
    client.socket.terminate();
    await gate.aborted(2);
    gate.letGo();
  });

  it('calls that prompt receive the events of their turn, numbered, and then the ordinary response', async () => {
    const fixture = await fixtureOf();
    const client = await fixture.connect();
    const { result } = await client.call('conversation.prompt', { prompt: 'hello', session_id: 's' });
    const { conversation_id, turn_id } = result ?? {};
    const events = client.received.slice(0, -1);
    expect(events).toEqual(
      events.map((_, index) => ({
        jsonrpc: '2.0',
        method: 'conversation.event',
        params: { session_id: 's', conversation_id, turn_id, seq: index + 1, event: expect.any(Object) },
      })),
    );
    const names = events.flatMap(({ params }) => Object.keys(Object(params?.event)));
    expect(names).toHaveLength(events.length);
    expect([names.at(0), names.at(-1)]).toEqual(['TaskStarted', 'TaskComplete']);
    expect(client.received.at(-1)).toMatchObject({ id: 'call-1', result: { type: 'ai_response' } });
  });

  it('calls leave a turn running when the connection ends', async () => {
    const fixture = await fixtureOf();
    const first = await fixture.connect();
    first.send(call(1, 'conversation.prompt', { prompt: 'word '.repeat(200), session_id: 's' }));
    await first.until(({ method }) => method === 'conversation.event');
    first.socket.terminate();
    const second = await fixture.connect();
    const resumed = await second.call('conversation.resume', { session_id: 's', after_seq: 0 });
    expect(resumed.result).toMatchObject({ status: 'completed' });
    const seqs = second.received.flatMap(({ params }) => (params === undefined ? [] : [Number(params.seq)]));
    expect(seqs).toEqual(seqs.map((_, index) => index + 1));
    expect(seqs.at(-1)).toBe(resumed.result?.last_seq);
  });
});

describe('a reader that is slow', () => {
  it('a reader that is slow pauses the sender, and gets all of it in order when it continues', async () => {
    const flood = createFlood();
    const fixture = await fixtureOf({ methods: [flood.method] });
    const client = await fixture.connect();
    client.socket.pause();
    client.send(call(1, 'test.flood', { messages: 300 }));
    await expect.poll(() => flood.state.sent, { interval: 50 }).toBeGreaterThan(4);
    // The kernel's buffers fill up first.
    await untilStable(() => flood.state.sent);
    expect(flood.state.ended).toBe(false);
    client.socket.resume();
    await client.until(({ id }) => id === 1);
    const numbers = client.received.flatMap(({ params }) => (params === undefined ? [] : [params.n]));
    expect(numbers).toEqual(Array.from({ length: 300 }, (_, n) => n));
  });

  it('a reader that is slow is closed with 1013 when a megabyte stays unread, and its calls are aborted', async () => {
    const flood = createFlood();
    const fixture = await fixtureOf({ methods: [flood.method], sockets: { tickMs: 20, stuckMs: 200 } });
    const client = await fixture.connect();
    client.socket.pause();
    for (const id of [1, 2, 3]) client.send(call(id, 'test.flood', { bytes: 1_000_000 }));
    await expect.poll(() => fixture.sockets.size).toBe(0);
    expect(flood.state.ended).toBe(true);
    client.socket.resume();
    expect((await client.closed).code).toBe(1006);
  });

  it('a reader that is slow is closed with 1013 when it reads on in time', async () => {
    const flood = createFlood();
    const fixture = await fixtureOf({ methods: [flood.method], sockets: { tickMs: 20, stuckMs: 200 } });
    const client = await fixture.connect();
    client.socket.pause();
    for (const id of [1, 2, 3]) client.send(call(id, 'test.flood', { bytes: 1_000_000 }));
    await expect.poll(() => flood.state.sent).toBeGreaterThan(0);
    // Its calls are aborted when the close is decided.
    await expect.poll(() => flood.state.ended).toBe(true);
    client.socket.resume();
    expect(await client.closed).toEqual({ code: 1013, reason: 'the client has left too many bytes unread' });
  });
});

describe('a peer', () => {
  it('a peer that answers pings stays connected', async () => {
    const fixture = await fixtureOf({ sockets: { tickMs: 10, pingMs: 400 } });
    const client = await fixture.connect();
    for (let pings = 0; pings < 4; pings++) await once(client.socket, 'ping');
    expect(fixture.sockets.size).toBe(1);
  });

  it('a peer that sends nothing for two pings is disconnected', async () => {
    const fixture = await fixtureOf({ sockets: { tickMs: 10, pingMs: 40 } });
    const client = await openRaw(fixture.port, KEY);
    expect(await client.ended).toBe(1006);
    expect(client.frames.filter(({ opcode }) => opcode === OPCODE.ping)).toHaveLength(1);
    await expect.poll(() => fixture.sockets.size).toBe(0);
  });

  it('a peer that continues calling needs no pongs', async () => {
    const fixture = await fixtureOf({ sockets: { tickMs: 10, pingMs: 400 } });
    const client = await openRaw(fixture.port, KEY);
    for (let pings = 1; pings <= 4; pings++) {
      await expect
        .poll(() => client.frames.filter(({ opcode }) => opcode === OPCODE.ping).length, { interval: 5 })
        .toBeGreaterThanOrEqual(pings);
      client.write(frame(OPCODE.text, '{"jsonrpc":"2.0","method":"conversation.list"}'));
    }
    expect(fixture.sockets.size).toBe(1);
    client.socket.destroy();
  });
});

describe('a key', () => {
  const scopes = new Set(['conversation', 'webhook'] as const);
  const fast = { keyCheckMs: 20, revokedCheckMs: 20 };

  it.each([
    ['withdrawn', (keys: ReturnType<typeof createChangingKeys>) => keys.held.delete(digestOf('k'))],
    ['expired', (keys: ReturnType<typeof createChangingKeys>) => change(keys, { expiresAtMs: Date.now() - 1 })],
    [
      'given other scopes',
      (keys: ReturnType<typeof createChangingKeys>) => change(keys, { scopes: new Set(['conversation']) }),
    ],
  ] as const)(
    'a key that is %s ends its sockets with 1008, opened by ticket or not, and no other’s',
    async (_, end) => {
      const keys = createChangingKeys({ k: { scopes }, other: { scopes } });
      const fixture = await fixtureOf({ overrides: { keys }, sockets: fast });
      const first = await fixture.connect({ headers: { 'X-API-Key': 'k' } });
      const other = await fixture.connect({ headers: { 'X-API-Key': 'other' } });
      const { result } = await first.call('auth.ticket');
      const second = await fixture.connect({ headers: {}, protocols: z.array(z.string()).parse(result?.protocols) });
      await other.call('conversation.list');
      end(keys);
      expect((await first.closed).code).toBe(1008);
      expect((await second.closed).code).toBe(1008);
      expect((await other.call('conversation.list')).result).toBeDefined();
    },
  );

  it('a key that is revoked in the limiter’s document ends its sockets, idle ones too', async () => {
    const fixture = await fixtureOf({ sockets: fast });
    const [idle, busy] = await Promise.all([fixture.connect(), fixture.connect()]);
    await setRevoked(fixture.services.store, 'default', true);
    expect((await idle.closed).code).toBe(1008);
    expect((await busy.closed).code).toBe(1008);
  });

  it('the connection of a revoked key is closed at its next call at the latest', async () => {
    const fixture = await fixtureOf();
    const client = await fixture.connect();
    await setRevoked(fixture.services.store, 'default', true);
    const { error } = await client.call('conversation.list');
    expect(error).toMatchObject({ code: 401 });
    expect((await client.closed).code).toBe(1008);
  });

  it('a key that cannot be looked up keeps its sockets', async () => {
    const keys = createChangingKeys({ k: { scopes } });
    let checks = 0;
    const down = {
      ...keys,
      find(digest: Uint8Array) {
        if (++checks > 1) throw new Error('down');
        return keys.find(digest);
      },
    };
    const fixture = await fixtureOf({ overrides: { keys: down }, sockets: fast });
    const client = await fixture.connect({ headers: { 'X-API-Key': 'k' } });
    await expect.poll(() => checks).toBeGreaterThan(3);
    expect((await client.call('conversation.list')).result).toBeDefined();
  });

  function change(
    keys: ReturnType<typeof createChangingKeys>,
    fields: Partial<Parameters<typeof keys.held.set>[1]>,
  ): void {
    const key = keys.held.get(digestOf('k'));
    if (key !== undefined) keys.held.set(digestOf('k'), { ...key, ...fields });
  }
});

describe('a planned end', () => {
  it('a connection of the maximum age receives gateway.reconnect, then is closed with 1012', async () => {
    const fixture = await fixtureOf({ sockets: { tickMs: 10, ageMaxMs: 100 } });
    const client = await fixture.connect();
    const hint = await client.until(({ method }) => method === 'gateway.reconnect');
    expect(hint.params).toMatchObject({ reason: 'max_age' });
    expect(hint.params?.retry_after_ms).toBeGreaterThan(0);
    expect(await client.closed).toEqual({ code: 1012, reason: 'reconnect' });
  });

  it('a planned end waits for calls in flight, refuses new ones, and closes when they are answered', async () => {
    const gate = createGate();
    const fixture = await fixtureOf({ methods: [gate.method] });
    const [busy, idle] = await Promise.all([fixture.connect(), fixture.connect()]);
    busy.send(call(1));
    await gate.begun(1);
    const drained = fixture.sockets.drain(10_000);
    expect((await idle.closed).code).toBe(1012);
    await busy.until(({ method }) => method === 'gateway.reconnect');
    expect((await busy.call('conversation.list')).error).toMatchObject({ code: 503 });
    const { status, headers } = await refusal(fixture.url, { headers: { 'X-API-Key': KEY } });
    expect(status).toBe(503);
    expect(headers['retry-after']).toBe('1');
    gate.letGo();
    expect((await busy.until(({ id }) => id === 1)).result).toEqual({ n: 1 });
    expect((await busy.closed).code).toBe(1012);
    await drained;
    expect(fixture.sockets.size).toBe(0);
  });

  it('a planned end is not put off by calls that do not end, nor by peers that do not answer', async () => {
    const gate = createGate();
    const fixture = await fixtureOf({ methods: [gate.method] });
    const client = await fixture.connect();
    const silent = await openRaw(fixture.port, KEY);
    client.send(call(1));
    await gate.begun(1);
    await fixture.sockets.drain(200);
    expect((await client.closed).code).toBe(1012);
    await silent.ended;
    gate.letGo();
  });
});

describe('a handshake', () => {
  it('a handshake that never ends holds no connection', async () => {
    const fixture = await fixtureOf();
    const socket = connectTcp(fixture.port, '127.0.0.1');
    socket.write('GET /ws HTTP/1.1\r\nHost: localhost\r\n');
    const client = clientOf(new WebSocket(fixture.url, { headers: { 'X-API-Key': KEY } }));
    await once(client.socket, 'open');
    expect(fixture.sockets.size).toBe(1);
    socket.destroy();
  });
});
