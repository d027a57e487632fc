// `events.subscribe` delivers every event once, live or replayed, whatever order it was committed in.
import { createHash } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { createGateway } from '../../../shared/gateway.ts';
import { eventsSubscribe } from '../../../shared/methods/events.subscribe.ts';
import { createRegistry } from '../../../shared/rpc/method.ts';
import type { SharedParams } from '../../../shared/rpc/notification.ts';
import type { Services } from '../../../shared/services.ts';
import { type EventDocument, eventWrite } from '../../../shared/webhooks/documents.ts';
import { followEvents } from '../../../shared/webhooks/feed/follow-events.ts';
import { type Client, createFixture, type Fixture, type Message } from '../../support/fixtures/gateway/companion.ts';

/** A deadline for busy machines, not a pause. */
const SLOW_MS = 15_000;
const fixtures: Fixture[] = [];
async function fixtureOf(): Promise<Fixture> {
  const fixture = await createFixture();
  fixtures.push(fixture);
  return fixture;
}
afterEach(async () => {
  await Promise.all(fixtures.splice(0).map((fixture) => fixture.close()));
});

/** Ids of events are hashes. */
const idOf = (n: number): string => `evt_${createHash('sha256').update(String(n)).digest('base64url')}`;

/** Records an event as the webhook function does, arrived `atMs`. */
async function put(
  { store }: Services,
  n: number,
  atMs: number,
  event = 'deployment.success',
  data: object | string = { n },
): Promise<string> {
  const id = idOf(n);
  const document: EventDocument = {
    event,
    source: '/webhook/key/default',
    time: new Date(atMs).toISOString(),
    ordering_key: 'wrapper',
    body: `{"event":"${event}","data":${typeof data === 'string' ? data : JSON.stringify(data)}}`,
    received_at_ms: atMs,
    state: 'recorded',
    message_id: null,
  };
  await store.commit([eventWrite(id, document)]);
  return id;
}

const isEvent = ({ method }: Message): boolean => method === 'event';
const numberOf = (params: Message['params']): number =>
  z.object({ data: z.object({ n: z.number() }) }).parse(params).data.n;
const seen = (client: Client): unknown[] => client.received.filter(isEvent).map(({ params }) => numberOf(params));
async function untilEvents(client: Client, count: number): Promise<Message[]> {
  await expect
    .poll(() => client.received.filter(isEvent).length, { interval: 5, timeout: SLOW_MS })
    .toBeGreaterThanOrEqual(count);
  return client.received.filter(isEvent);
}

describe('a subscription', () => {
  it('a subscription receives later events with all their fields, after its own response', async () => {
    const fixture = await fixtureOf();
    const now = Date.now();
    await put(fixture.services, 1, now - 1_000);
    const client = await fixture.connect();
    const { result } = await client.call('events.subscribe');
    const id = await put(fixture.services, 2, now);
    const [event] = await untilEvents(client, 1);
    expect(event?.params).toEqual({
      subscription_id: result?.subscription_id,
      event_id: id,
      event: 'deployment.success',
      timestamp: new Date(now).toISOString(),
      received_at: new Date(now).toISOString(),
      source: '/webhook/key/default',
      data: { n: 2 },
      status: 'recorded',
      message_id: null,
      cursor: expect.stringMatching(/^live\./),
    });
    expect(client.received[0]?.result).toBeDefined();
  });

  it('a subscription gets events once, however often their documents change', async () => {
    const fixture = await fixtureOf();
    const client = await fixture.connect();
    await client.call('events.subscribe');
    const now = Date.now();
    for (let round = 0; round < 3; round++) for (let n = 0; n < 5; n++) await put(fixture.services, n, now + n);
    await put(fixture.services, 99, now + 99);
    await expect.poll(() => seen(client), { timeout: SLOW_MS }).toContain(99);
    expect(seen(client)).toEqual([0, 1, 2, 3, 4, 99]);
  });

  it('a subscription gets events that were committed late, though they arrived before others', async () => {
    const fixture = await fixtureOf();
    const client = await fixture.connect();
    await client.call('events.subscribe');
    const now = Date.now();
    for (const [n, atMs] of [
      [1, now],
      [2, now - 4_000],
      [3, now - 9_000],
      [4, now - 1],
      [5, now],
    ] as const) {
      await put(fixture.services, n, atMs);
      await untilEvents(client, n);
    }
    expect(seen(client)).toEqual([1, 2, 3, 4, 5]);
  });

  it('a subscription receives all events of a burst, and a late one after it', async () => {
    const fixture = await fixtureOf();
    const client = await fixture.connect();
    await client.call('events.subscribe');
    const now = Date.now();
    await Promise.all(Array.from({ length: 300 }, (_, n) => put(fixture.services, n, now + (n % 7))));
    await untilEvents(client, 300);
    // Older than everything under watch: found by looking again.
    await put(fixture.services, 1_000, now - 5_000);
    await expect.poll(() => seen(client), { timeout: SLOW_MS }).toContain(1_000);
    expect(new Set(seen(client)).size).toBe(301);
    expect(seen(client)).toHaveLength(301);
  });

  it('a subscription with a filter gets only its events', async () => {
    const fixture = await fixtureOf();
    const client = await fixture.connect();
    await client.call('events.subscribe', { event: 'push' });
    const now = Date.now();
    await put(fixture.services, 1, now, 'other');
    await put(fixture.services, 2, now, 'push');
    await untilEvents(client, 1);
    expect(seen(client)).toEqual([2]);
  });

  it('a subscription ends by events.unsubscribe and with its connection; others continue', async () => {
    const fixture = await fixtureOf();
    const [first, second] = await Promise.all([fixture.connect(), fixture.connect()]);
    const { result } = await first.call('events.subscribe');
    await second.call('events.subscribe');
    const gone = await first.call('events.unsubscribe', { subscription_id: result?.subscription_id });
    expect(gone.result).toEqual({ unsubscribed: true, subscription_id: result?.subscription_id });
    const again = await first.call('events.unsubscribe', { subscription_id: result?.subscription_id });
    expect(again.result).toMatchObject({ unsubscribed: false });
    await put(fixture.services, 1, Date.now());
    await untilEvents(second, 1);
    expect(seen(first)).toEqual([]);
  });

  it('a subscription is one of at most eight of a key, over all its connections and streams, also when requested at once', async () => {
    const fixture = await fixtureOf();
    const client = await fixture.connect();
    const other = await fixture.connect();
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, n) => (n % 2 === 0 ? client : other).call('events.subscribe')),
    );
    expect(answers.filter(({ result }) => result !== undefined)).toHaveLength(8);
    expect(answers.find(({ error }) => error !== undefined)?.error).toMatchObject({
      code: 409,
      data: { limit: 8, retryable: false },
    });
    expect(await call(fixture.services, 'sse')).toMatchObject({ error: { code: 409, data: { reason: 'conflict' } } });
    const freed = answers.find(({ result }) => result !== undefined);
    await client.call('events.unsubscribe', { subscription_id: freed?.result?.subscription_id });
    const leave = new AbortController();
    const begun = Promise.withResolvers<void>();
    const stream = call(fixture.services, 'sse', leave, () => begun.resolve());
    await begun.promise;
    expect((await client.call('events.subscribe')).error).toMatchObject({ code: 409 });
    leave.abort();
    await stream;
    expect((await client.call('events.subscribe')).result).toBeDefined();
    client.socket.terminate();
    await client.closed;
    const subscribe = async () => (await other.call('events.subscribe')).result !== undefined;
    await expect.poll(subscribe, { timeout: SLOW_MS }).toBe(true);
  });

  it('a subscription is sent an event in the bytes that every other reader is sent, made once', async () => {
    const { services } = await fixtureOf();
    const leave = new AbortController();
    const receiptsOf = new Map<unknown, number>();
    let receipts = 0;
    const streams = Array.from({ length: 8 }, () =>
      call(
        services,
        'sse',
        leave,
        () => {},
        (form) => {
          const readers = (receiptsOf.get(form) ?? 0) + 1;
          receiptsOf.set(form, readers);
          if (readers === 8 || ++receipts === 800) leave.abort();
        },
      ),
    );
    // Until an event comes after the last of them has begun to follow.
    let n = 0;
    const sending = setInterval(() => void put(services, ++n, Date.now()), 20);
    await Promise.all(streams);
    clearInterval(sending);
    expect(Math.max(...receiptsOf.values())).toBe(8);
  });

  it('a subscription receives a large event completely, and one above the size of a message without its data', async () => {
    const fixture = await fixtureOf();
    const client = await fixture.connect();
    await client.call('events.subscribe');
    const large = { n: 1, text: `${'x'.repeat(100_000)}€` };
    await put(fixture.services, 1, Date.now(), 'large', large);
    // Numbers that are five times as long as they were sent.
    await put(fixture.services, 2, Date.now(), 'huge', `{"n":2,"list":[${Array(60_000).fill('1e20').join()}]}`);
    const [first, second] = await untilEvents(client, 2);
    expect(first?.params).toMatchObject({ event: 'large', data: large, cursor: expect.any(String) });
    expect(second?.params).toMatchObject({ event_id: idOf(2), data: null, omitted: { bytes: expect.any(Number) } });
  });
});

describe('a cursor', () => {
  it('a cursor replays the missed events, each once, in events that arrive in any order', async () => {
    const fixture = await fixtureOf();
    const now = Date.now();
    let client = await fixture.connect();
    const { result } = await client.call('events.subscribe');
    let cursor = String(result?.cursor);
    const got: unknown[] = [];
    let n = 0;
    for (let round = 0; round < 12; round++) {
      for (let k = 0; k < 6; k++) await put(fixture.services, ++n, now + round * 1_000 - ((n * 7919) % 9_000));
      await untilEvents(client, 1);
      // Cut at any point of the stream: what was read counts.
      const read = client.received.filter(isEvent);
      got.push(...seen(client).slice(0, read.length));
      cursor = String(read.at(-1)?.params?.cursor ?? cursor);
      client.socket.terminate();
      for (let k = 0; k < 3; k++) await put(fixture.services, ++n, now + round * 1_000 - ((n * 104_729) % 9_000));
      client = await fixture.connect();
      await client.call('events.subscribe', { after: cursor });
      await untilEvents(client, 1);
    }
    await expect.poll(() => new Set([...got, ...seen(client)]).size, { timeout: SLOW_MS }).toBe(n);
    expect([...got, ...seen(client)]).toHaveLength(n);
  });

  it('a cursor continues after an event and a cursor of a clock that was 400 days ahead', async () => {
    const fixture = await fixtureOf();
    const farMs = Date.now() + 400 * 86_400_000;
    await put(fixture.services, 1, farMs);
    for (const after of [idOf(1), `live.${farMs.toString(36)}.`]) {
      const client = await fixture.connect();
      await client.call('events.subscribe', { after });
      await put(fixture.services, after === idOf(1) ? 2 : 3, Date.now());
      const last = after === idOf(1) ? 2 : 3;
      await expect.poll(() => seen(client).at(-1), { timeout: SLOW_MS }).toBe(last);
      client.socket.close();
    }
  });

  it('a cursor begins after an event that is named by its id, as a list does', async () => {
    const fixture = await fixtureOf();
    const now = Date.now();
    for (let n = 1; n <= 5; n++) await put(fixture.services, n, now - 1_000 + n);
    const client = await fixture.connect();
    await client.call('events.subscribe', { after: idOf(3) });
    await untilEvents(client, 2);
    expect(seen(client)).toEqual([4, 5]);
    const list = async (order: string): Promise<unknown> => {
      const { result } = await client.call('events.list', { after: idOf(3), order });
      return z.object({ events: z.array(z.object({ event_id: z.string() })) }).parse(result).events;
    };
    expect(await list('newest')).toEqual([{ event_id: idOf(2) }, { event_id: idOf(1) }]);
    expect(await list('oldest')).toEqual([{ event_id: idOf(4) }, { event_id: idOf(5) }]);
    for (const method of ['events.list', 'events.subscribe']) {
      expect((await client.call(method, { after: idOf(99) })).error).toMatchObject({
        code: -32602,
        data: { issues: [{ path: 'after', message: 'no such event' }] },
      });
    }
  });

  it('a cursor of the last page of events.list, oldest first, continues that list', async () => {
    const fixture = await fixtureOf();
    const now = Date.now() - 60_000;
    for (let n = 1; n <= 6; n++) await put(fixture.services, n, now + n);
    const client = await fixture.connect();
    const { result } = await client.call('events.list', { order: 'oldest', limit: 4 });
    await client.call('events.subscribe', { after: result?.next_cursor });
    await untilEvents(client, 2);
    await put(fixture.services, 7, Date.now());
    await untilEvents(client, 3);
    expect(seen(client)).toEqual([5, 6, 7]);
  });

  it.each(['', 'x', 'live.', `live.zz.${'a'.repeat(7)}`, 'bGl2ZQ', `live.1.${'x'.repeat(700)}`])(
    'a cursor that was never given is refused: %j',
    async (after) => {
      const fixture = await fixtureOf();
      const client = await fixture.connect();
      expect((await client.call('events.subscribe', { after })).error).toMatchObject({ code: -32602 });
    },
  );
});

describe('a reader', () => {
  it('a reader that falls far behind the others still gets everything once', async () => {
    const { services } = await fixtureOf();
    const end = new AbortController();
    const follower = await followEvents(services, {}, end.signal);
    const reading = follower.read(end.signal);
    const now = Date.now();
    // More than the feed keeps.
    for (let n = 0; n < 600; n++) await put(services, n, now + n);
    const got: unknown[] = [];
    for await (const { id } of reading) {
      got.push(id);
      if (got.length === 600) break;
    }
    expect(new Set(got).size).toBe(600);
  });
});

describe('other transports', () => {
  it('other transports without a stream get an error that names what to use instead', async () => {
    const { services } = await fixtureOf();
    const error = await call(services, 'http');
    expect(error).toMatchObject({
      error: { code: -32602, data: { issues: [{ message: expect.stringContaining('events.list') }] } },
    });
  });

  it('a subscription over SSE receives events until it disconnects', async () => {
    const { services } = await fixtureOf();
    const got: unknown[] = [];
    const leave = new AbortController();
    const answered = call(services, 'sse', leave, (method, params, eventId) => {
      got.push([method, eventId !== undefined]);
      if (method === 'events.subscribed') void put(services, 1, Date.now());
      else leave.abort();
      return params;
    });
    expect(await answered).toMatchObject({ result: { subscribed: true } });
    expect(got).toEqual([
      ['events.subscribed', true],
      ['event', true],
    ]);
  });
});

async function call(
  services: Services,
  transport: 'http' | 'sse',
  leave = new AbortController(),
  notify: (method: string, params: object, eventId?: string) => unknown = () => {},
  notifyShared?: (shared: SharedParams) => void,
): Promise<unknown> {
  const gateway = createGateway(services, createRegistry([eventsSubscribe]));
  const reply = await gateway.handle({
    caller: await gateway.authenticate({ 'x-api-key': 'dev-key' }),
    body: Buffer.from('{"jsonrpc":"2.0","method":"events.subscribe","id":1}'),
    requestId: 'r',
    transport,
    signal: leave.signal,
    notify: (method, params, eventId) => void notify(method, params, eventId),
    ...(notifyShared && { notifyShared: (_method, _params, shared) => notifyShared(shared) }),
  });
  return JSON.parse(reply.text ?? '');
}
