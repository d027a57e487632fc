// A connection has its bounds as deployed, with no option set: how many a key has, when they are pinged and closed, and
// how much a reader may leave unread. The test advances intervals and the monotonic clock. Slow readers are connected
// by a pair of streams, because the kernel's buffers would hide how much is unread.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { duplexPair } from 'node:stream';
import { afterEach, expect, it, vi } from 'vitest';
import WebSocket from 'ws';
import { z } from 'zod';
import { attachWebSocket } from '../../../functions/companion/server.ts';
import { defineMethod } from '../../../shared/methods/define-method.ts';
import {
  type Client,
  clientOf,
  createChangingKeys,
  createFixture,
  type Fixture,
  type FixtureOptions,
  KEY,
  refusal,
} from '../../support/fixtures/gateway/companion.ts';

const FRAME_BYTES = 64 << 10;
const MINUTE_MS = 60_000;

const open: Fixture[] = [];
async function fixtureOf(options: FixtureOptions = {}): Promise<Fixture> {
  const fixture = await createFixture(options);
  open.push(fixture);
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
  return fixture;
}
afterEach(async () => {
  vi.useRealTimers();
  await Promise.all(open.splice(0).map((fixture) => fixture.close()));
});

/** Each tick of the server runs after a turn of the event loop. */
async function advance(ms: number): Promise<void> {
  vi.advanceTimersByTime(ms);
  for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve));
}

const base = { summary: 'test', scope: null, cost: 'free', example: { params: {}, result: {} } } as const;

/** Sends frames of 64 KiB: each when the one before may be followed, or all at once. Counts those it may follow up. */
function createSender() {
  const state = { taken: 0, calls: 0 };
  const params = z.strictObject({ frames: z.int().default(0), at_once: z.boolean().default(false) });
  const method = defineMethod({
    ...base,
    name: 'test.send',
    params,
    result: z.object({}),
    async handle({ frames, at_once }, { notify }) {
      state.calls++;
      for (let n = 0; n < frames; n++) {
        const empty = JSON.stringify({ jsonrpc: '2.0', method: 'test.data', params: { data: '' } });
        // A frame of this size has a header of four bytes.
        const sent = notify('test.data', { data: 'x'.repeat(FRAME_BYTES - 4 - empty.length) });
        if (at_once) continue;
        await sent;
        state.taken++;
      }
      return {};
    },
  });
  return { state, method };
}

/** A client whose unread bytes stay in the gateway but for the one chunk that the client's stream has taken. */
async function connectDirectly({ services, gateway }: Fixture): Promise<Client & { readonly isKept: () => boolean }> {
  const server = createServer();
  const sockets = attachWebSocket(server, services, gateway);
  const [near, far] = duplexPair();
  server.emit('connection', far);
  const socket = new WebSocket('ws://localhost/ws', { headers: { 'X-API-Key': KEY }, createConnection: () => near });
  const client = clientOf(socket);
  await once(socket, 'open');
  return { ...client, isKept: () => sockets.size === 1 };
}

it('a key has at most 10 connections, whichever of its secrets opens them; another key has its own', async () => {
  const keys = createChangingKeys({ old: { id: 'one' }, new: { id: 'one' }, other: {} });
  const fixture = await fixtureOf({ overrides: { keys } });
  const headersOf = (key: string) => ({ headers: { 'X-API-Key': key } });
  const attempts = Array.from({ length: 14 }, (_, n) => {
    const client = clientOf(new WebSocket(fixture.url, headersOf(n % 2 === 0 ? 'old' : 'new')));
    return once(client.socket, 'open').then(
      () => 'open',
      () => 'refused',
    );
  });
  expect((await Promise.all(attempts)).filter((outcome) => outcome === 'open')).toHaveLength(10);
  for (const key of ['old', 'new']) {
    const { status, body } = await refusal(fixture.url, headersOf(key));
    expect([status, body.error?.data]).toMatchObject([429, { reason: 'rate_limited', limit: 10 }]);
  }
  await fixture.connect(headersOf('other'));
  expect(fixture.sockets.size).toBe(11);
});

it('a connection is pinged after 30 s', async () => {
  const fixture = await fixtureOf();
  const client = await fixture.connect();
  let pings = 0;
  client.socket.on('ping', () => pings++);
  await advance(29_000);
  await client.call('conversation.list');
  expect(pings).toBe(0);
  await advance(1_000);
  await client.call('conversation.list');
  expect(pings).toBe(1);
});

it('a connection is closed with 1012 before the 60 minutes after which Cloud Run cuts it, busy or not', async () => {
  const never = defineMethod({
    ...base,
    name: 'test.never',
    params: z.strictObject({}),
    result: z.object({}),
    handle: (_params, { signal }) =>
      new Promise<Record<string, never>>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  });
  const fixture = await fixtureOf({ methods: [never] });
  const [idle, busy] = await Promise.all([fixture.connect(), fixture.connect()]);
  busy.send({ jsonrpc: '2.0', method: 'test.never', id: 1 });
  await busy.call('conversation.list');
  for (let minute = 1; minute < 60; minute++) {
    await advance(MINUTE_MS / 2);
    await advance(MINUTE_MS / 2 - 1);
    // What the server has read by now includes the answers to its pings.
    await Promise.all([idle, busy].map(roundTrip));
  }
  expect(await idle.closed).toEqual({ code: 1012, reason: 'reconnect' });
  expect(await busy.closed).toEqual({ code: 1012, reason: 'reconnect' });
  for (const { received } of [idle, busy]) {
    expect(received.find(({ method }) => method === 'gateway.reconnect')?.params).toMatchObject({ reason: 'max_age' });
  }
});

it('a reader is paused above 256 KiB that it has not read: nothing more is sent to it, nothing more read', async () => {
  const { state, method } = createSender();
  const client = await connectDirectly(await fixtureOf({ methods: [method] }));
  client.socket.pause();
  client.send({ jsonrpc: '2.0', method: 'test.send', params: { frames: 12 }, id: 1 });
  await expect.poll(() => state.taken).toBe(4);
  client.send({ jsonrpc: '2.0', method: 'test.send', id: 2 });
  await advance(0);
  expect(state).toEqual({ taken: 4, calls: 1 });
  client.socket.resume();
  await client.until(({ id }) => id === 2);
  await client.until(({ id }) => id === 1);
  expect(state).toEqual({ taken: 12, calls: 2 });
  expect(client.received.filter(({ method: name }) => name === 'test.data')).toHaveLength(12);
});

it('a reader with 1 MiB unread is closed with 1013 after 10 s, one with less is not', async () => {
  const { state, method } = createSender();
  const fixture = await fixtureOf({ methods: [method] });
  const [slow, stuck] = [await connectDirectly(fixture), await connectDirectly(fixture)];
  for (const [client, frames] of [
    [slow, 15],
    [stuck, 16],
  ] as const) {
    client.socket.pause();
    client.send({ jsonrpc: '2.0', method: 'test.send', params: { frames, at_once: true }, id: 1 });
  }
  await expect.poll(() => state.calls).toBe(2);
  // The first tick begins to count.
  for (let second = 0; second < 10; second++) await advance(1_000);
  stuck.socket.resume();
  await stuck.until(({ id }) => id === 1);
  stuck.socket.pause();
  stuck.send({ jsonrpc: '2.0', method: 'test.send', params: { frames: 16, at_once: true }, id: 2 });
  await expect.poll(() => state.calls).toBe(3);
  for (let second = 0; second < 11; second++) await advance(1_000);
  slow.socket.resume();
  stuck.socket.resume();
  expect(await stuck.closed).toEqual({ code: 1013, reason: 'the client has left too many bytes unread' });
  expect((await slow.call('test.send')).result).toEqual({});
});

it('a paused reader stays connected while it reads something between two pings, although its pongs are not read', async () => {
  const { state, method } = createSender();
  const client = await connectDirectly(await fixtureOf({ methods: [method] }));
  client.socket.pause();
  client.send({ jsonrpc: '2.0', method: 'test.send', params: { frames: 15, at_once: true }, id: 1 });
  await expect.poll(() => state.calls).toBe(1);
  client.socket.on('message', () => client.socket.pause());
  for (let pings = 1; pings <= 4; pings++) {
    await advance(30_000);
    client.socket.resume();
    await once(client.socket, 'message');
    // The server sees that it has moved.
    await advance(0);
  }
  await advance(30_000);
  expect(client.isKept()).toBe(true);
  await advance(30_000);
  expect(client.isKept()).toBe(false);
  expect(client.received).toHaveLength(4);
});

/** Resolves when the server has read everything that was sent, or the connection has ended. */
async function roundTrip({ socket, closed }: Client): Promise<void> {
  if (socket.readyState !== WebSocket.OPEN) return;
  const answered = new Promise((resolve) => socket.once('pong', resolve));
  socket.ping();
  await Promise.race([answered, closed]);
}
