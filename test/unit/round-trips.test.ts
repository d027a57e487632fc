// A call waits for few round trips to the store, on whole gateways that share one: a read for none beside that of the
// limiter, a prompt in a warm session for none but the commit that counts and admits it and the one that ends it.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Clock, systemClock } from '../../shared/clock.ts';
import { loadConfig } from '../../shared/config/load-config.ts';
import { createServices } from '../../shared/create-services.ts';
import { createGateway, type Gateway } from '../../shared/gateway.ts';
import { createLogger } from '../../shared/log.ts';
import * as methods from '../../shared/methods/index.ts';
import { createRegistry } from '../../shared/rpc/method.ts';
import type { Services } from '../../shared/services.ts';
import { createEmbeddedStore } from '../../shared/store/embedded/embedded.ts';
import type { Store } from '../../shared/store/store.ts';
import { countRoundTrips, type RoundTrips } from '../support/fixtures/database/round-trips.ts';
import { startInProcess } from '../support/fixtures/gateway/in-process.ts';
import { createTestClock } from '../support/fixtures/limiter/rate-limit.ts';

const KEYS = JSON.stringify({
  keys: [
    { id: 'alice', key: 'key-alice' },
    { id: 'reader', key: 'key-reader', scopes: ['webhook'] },
  ],
});
const session_id = 's';

interface Instance {
  readonly services: Services;
  readonly gateway: Gateway;
  readonly store: RoundTrips;
  /** With `onEvent`, the events of the turn are streamed. */
  call(
    method: string,
    params?: object,
    key?: string,
    onEvent?: (event: object) => void,
  ): Promise<Record<string, unknown>>;
  /** Round trips of a call. */
  tripsOf(method: string, params?: object): Promise<number>;
}

let shared: Store;
const instances: Instance[] = [];
beforeEach(() => {
  shared = createEmbeddedStore({ path: ':memory:', clock: systemClock });
});
afterEach(async () => {
  for (const { services } of instances.splice(0)) await services.conversations.drain(0);
  await shared.close();
});

async function start(limits = '1000000/minute', clock: Clock = systemClock): Promise<Instance> {
  const store = countRoundTrips(shared);
  const log = createLogger({ format: 'json', write: () => {} });
  const config = loadConfig({ GATEWAY_KEYS: KEYS, GATEWAY_BUS: 'local', GATEWAY_LIMITS: limits });
  const services = await createServices(config, { store, log, clock });
  const gateway = createGateway(services, createRegistry(Object.values(methods)));
  const call: Instance['call'] = async (method, params = {}, key = 'key-alice', onEvent) => {
    const { text } = await gateway.handle({
      caller: await gateway.authenticate({ 'x-api-key': key }),
      body: Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })),
      requestId: 'req_1',
      transport: onEvent === undefined ? 'http' : 'sse',
      notify: (_, { event }: { readonly event?: object }) => onEvent?.(event ?? {}),
      signal: new AbortController().signal,
    });
    return JSON.parse(text ?? '');
  };
  const instance: Instance = {
    services,
    gateway,
    store,
    call,
    async tripsOf(method, params) {
      // The usage of earlier turns is written in the background.
      await services.conversations.ledger.flush();
      store.reset();
      expect(await call(method, params)).toHaveProperty('result');
      return store.trips;
    },
  };
  instances.push(instance);
  return instance;
}

const prompt = { prompt: 'hello', session_id, model: 'offline/echo' };

describe('reads beside the limiter', () => {
  it.each([
    ['conversation.status', { session_id }],
    ['conversation.history', { session_id }],
    ['conversation.list', {}],
    ['events.list', {}],
    ['deployment.list', {}],
  ])('%s waits for one round trip, that of the limiter', async (method, params) => {
    const a = await start();
    await a.call('conversation.prompt', prompt);
    await a.call(method, params);
    expect(await a.tripsOf(method, params)).toBe(1);
  });

  it('a refused call gets the refusal and no data, and the next one does not read at all', async () => {
    const a = await start('2/day');
    await a.call('conversation.prompt', prompt);
    await a.call('conversation.status', { session_id });
    // Another instance has not read yet that the limit is reached.
    const b = await start('2/day');
    const refused = await b.call('conversation.status', { session_id });
    expect(refused).toEqual({
      jsonrpc: '2.0',
      id: 1,
      error: expect.objectContaining({ data: expect.objectContaining({ reason: 'rate_limited' }) }),
    });
    b.store.reset();
    expect(await b.call('conversation.status', { session_id })).toHaveProperty('error.data.reason', 'rate_limited');
    expect(b.store.trips).toBe(0);
  });

  it('a call without the scope or with invalid params reads nothing', async () => {
    const a = await start();
    const read: string[] = [];
    const { get } = a.store;
    a.store.get = (refs, options) => {
      read.push(...refs.map(({ collection }) => collection));
      return get(refs, options);
    };
    expect(await a.call('conversation.status', { session_id }, 'key-reader')).toHaveProperty('error.code', 403);
    expect(await a.call('conversation.status', { wrong: 1 })).toHaveProperty('error.code', -32602);
    expect(read.filter((collection) => collection === 'conversations')).toEqual([]);
  });
});

describe('a prompt', () => {
  it('a prompt in a warm session waits for two round trips: the one that counts and admits it, and the end', async () => {
    const a = await start();
    await a.call('conversation.prompt', prompt);
    expect(await a.tripsOf('conversation.prompt', prompt)).toBe(2);
    expect(await a.tripsOf('conversation.prompt', { ...prompt, idempotency_key: 'k' })).toBe(2);
  });

  it('a prompt starts no turn and sends no event before the commit that admits it', async () => {
    const a = await start();
    await a.call('conversation.prompt', prompt);
    const seen: string[] = [];
    const { commit } = a.store;
    a.store.commit = async (writes, options) => {
      const versions = await commit(writes, options);
      seen.push(writes.map(({ ref }) => ref.collection).join(' '));
      return versions;
    };
    await a.call('conversation.prompt', prompt, 'key-alice', (event) => seen.push(Object.keys(event).join()));
    expect(seen.slice(0, 2)).toEqual(['limits conversations', 'TaskStarted']);
    expect(seen.at(-1)).toBe('TaskComplete');
  });

  it('a prompt stores nothing when the limit refuses it', async () => {
    const [a, b] = [await start('2/minute'), await start('2/minute')];
    await a.call('conversation.prompt', prompt);
    await b.call('conversation.prompt', prompt);
    // Instance a has not read yet that the limit is reached.
    const refused = await a.call('conversation.prompt', { ...prompt, session_id: 'other', idempotency_key: 'k' });
    expect(refused).toHaveProperty('error.data.reason', 'rate_limited');
    expect(await a.services.conversations.find('alice', 'other')).toBeUndefined();
  });

  it('the first prompt of a new session waits for no more', async () => {
    const a = await start();
    await a.call('conversation.prompt', prompt);
    const { session_id: _, ...fresh } = prompt;
    expect(await a.tripsOf('conversation.prompt', fresh)).toBe(2);
  });

  it('an instance without owner and session in memory reads them while the limiter counts', async () => {
    const a = await start();
    const long = { ...prompt, prompt: 'many words '.repeat(1_000) };
    for (let turn = 0; turn < 12; turn++) await a.call('conversation.prompt', long);
    await a.services.conversations.ledger.flush();
    const b = await start();
    // Limiter, session and total are read, then committed; the older messages are read beside that commit.
    expect(await b.tripsOf('conversation.prompt', prompt)).toBe(3);
  });

  it('a session that two instances serve in turns is read beside the limiter, not after a conflict', async () => {
    const clock = createTestClock(Date.now());
    const [a, b] = [await start(undefined, clock), await start(undefined, clock)];
    for (let turn = 0; turn < 6; turn++) {
      await (turn % 2 === 0 ? a : b).call('conversation.prompt', prompt);
      clock.advance(1_000);
    }
    // Without those of the counts of both instances, which are written in the background.
    const conflicts: string[] = [];
    const { commit } = a.store;
    a.store.commit = async (writes, options) => {
      try {
        return await commit(writes, options);
      } catch (error) {
        const collections = writes.map(({ ref }) => ref.collection);
        conflicts.push(...collections.filter((name) => name !== 'usage' && name !== 'storage'));
        throw error;
      }
    };
    // The reads of limiter and session, their commit, and the end.
    expect(await a.tripsOf('conversation.prompt', prompt)).toBe(3);
    expect(conflicts).toEqual([]);
  });
});

describe('a webhook delivery', () => {
  it('a webhook delivery waits for two round trips: the one that counts and records it, and its mark as published', async () => {
    const store = countRoundTrips(shared);
    const gateway = await startInProcess({ GATEWAY_KEYS: KEYS }, { store });
    const deliver = (version: number) =>
      fetch(`${gateway.url}/webhook`, {
        method: 'POST',
        headers: { 'x-api-key': 'key-alice', 'content-type': 'application/json' },
        body: JSON.stringify({ event: 'deployment.success', data: { service: 'a', region: 'b', version } }),
      });
    try {
      await deliver(1);
      // The subscriber of the first delivery has its own writes.
      await expect.poll(() => store.isIdle).toBe(true);
      store.reset();
      const bus = vi.spyOn(gateway.services.bus, 'publish');
      const published: number[] = [];
      bus.mockImplementation(async () => {
        published.push(store.trips);
        return { messageId: 'm1' };
      });
      const response = await deliver(2);
      expect(await response.json()).toMatchObject({ status: 'accepted', message_id: 'm1' });
      expect(response.status).toBe(200);
      // It is published when it is recorded, and acknowledged when it is marked.
      expect(published).toEqual([1]);
      expect(store.trips).toBe(2);
    } finally {
      await gateway.close();
    }
  });

  it('a webhook delivery of a sender whose calls are refused from memory is not parsed', async () => {
    const store = countRoundTrips(shared);
    const gateway = await startInProcess({ GATEWAY_KEYS: KEYS, GATEWAY_LIMITS: '1/day' }, { store });
    const deliver = async (event: string) => {
      const headers = { 'x-api-key': 'key-alice' };
      return (await fetch(`${gateway.url}/webhook`, { method: 'POST', headers, body: JSON.stringify({ event }) }))
        .status;
    };
    const parse = vi.spyOn(JSON, 'parse');
    const parsed = (event: string) => parse.mock.calls.filter(([text]) => text === JSON.stringify({ event })).length;
    try {
      expect(await deliver('first')).toBe(200);
      expect(parsed('first')).toBeGreaterThan(0);
      expect(await deliver('second')).toBe(429);
      expect(parsed('second')).toBe(0);
    } finally {
      parse.mockRestore();
      await gateway.close();
    }
  });
});
