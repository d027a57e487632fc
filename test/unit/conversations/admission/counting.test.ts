// A prompt whose admitting commit also counts its call is counted once and runs once, also if the outcome of that
// commit is unknown. The suite runs whole gateways that share one store.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../../../shared/clock.ts';
import { loadConfig } from '../../../../shared/config/load-config.ts';
import { createServices } from '../../../../shared/create-services.ts';
import { RpcError } from '../../../../shared/errors.ts';
import { createGateway } from '../../../../shared/gateway.ts';
import { createLogger } from '../../../../shared/log.ts';
import * as methods from '../../../../shared/methods/index.ts';
import { toLimitRef, toLimitState } from '../../../../shared/rate-limit/windows/limit-document.ts';
import { createRegistry } from '../../../../shared/rpc/method.ts';
import type { Services } from '../../../../shared/services.ts';
import { createEmbeddedStore } from '../../../../shared/store/embedded/embedded.ts';
import type { Store } from '../../../../shared/store/store.ts';

const KEYS = JSON.stringify({ keys: [{ id: 'alice', key: 'key-alice' }] });
const PROMPT = { prompt: 'hello', session_id: 's', model: 'offline/echo' };

/** Of a commit that counts: stored without a response (after some work of others), or not stored. */
type Fault = 'unknown' | 'lost' | (() => Promise<unknown>);
type Call = (method: string, params: object) => Promise<Record<string, unknown>>;

let shared: Store;
let faults: Fault[];
const started: Services[] = [];
beforeEach(() => {
  faults = [];
  shared = createEmbeddedStore({ path: ':memory:', clock: systemClock });
});
afterEach(async () => {
  for (const { conversations } of started.splice(0)) await conversations.drain(0);
  await shared.close();
});

async function start(): Promise<Call> {
  const store: Store = {
    ...shared,
    isRemote: true,
    async commit(writes, options) {
      const fault = writes.some(({ ref }) => ref.collection === 'limits') ? faults.shift() : undefined;
      const versions = fault === 'lost' ? [] : await shared.commit(writes, options);
      if (typeof fault === 'function') await fault();
      if (fault !== undefined) throw new RpcError('unavailable');
      return versions;
    },
  };
  const config = loadConfig({ GATEWAY_KEYS: KEYS, GATEWAY_BUS: 'local', GATEWAY_LIMITS: '500/day' });
  const services = await createServices(config, { store, log: createLogger({ format: 'json', write: () => {} }) });
  started.push(services);
  const gateway = createGateway(services, createRegistry(Object.values(methods)));
  return async (method, params) => {
    const { text } = await gateway.handle({
      caller: await gateway.authenticate({ 'x-api-key': 'key-alice' }),
      body: Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })),
      requestId: 'req_1',
      transport: 'http',
      signal: new AbortController().signal,
    });
    return JSON.parse(text ?? '');
  };
}

async function counted(): Promise<number> {
  const [snapshot] = await shared.get([toLimitRef('alice')]);
  return toLimitState(snapshot).windows.reduce((sum, { count }) => sum + count, 0);
}

async function messages(call: Call): Promise<unknown> {
  return ((await call('conversation.history', { session_id: 's' })).result as { messages: unknown[] }).messages.length;
}

describe('a commit that counts and admits a prompt', () => {
  it.each<Fault>(['unknown', 'lost'])(
    'a prompt whose admitting commit has no response (%s) counts and runs once',
    async (fault) => {
      const call = await start();
      await call('conversation.prompt', PROMPT);
      faults.push(fault);
      expect(await call('conversation.prompt', PROMPT)).toHaveProperty('result.content');
      expect([await counted(), await messages(call)]).toEqual([2, 4]);
    },
  );

  it.each<Fault>(['unknown', 'lost'])(
    'a queued prompt whose commit has no response (%s) counts and runs once',
    async (fault) => {
      const call = await start();
      const running = call('conversation.prompt', { ...PROMPT, model: 'offline/slow' });
      const status = () => call('conversation.status', { session_id: 's' });
      await expect.poll(status).toHaveProperty('result.status', 'running');
      const before = await counted();
      faults.push(fault);
      expect(await call('conversation.prompt', { ...PROMPT, on_busy: 'interrupt' })).toHaveProperty('result.content');
      expect(await running).toHaveProperty('error.data.reason', 'cancelled');
      expect(await counted()).toBe(before + 1);
    },
  );

  it('a prompt that is cancelled while its commit has no response counts once and does not run', async () => {
    const [call, other] = [await start(), await start()];
    await call('conversation.prompt', PROMPT);
    const before = await counted();
    faults.push(() => other('conversation.cancel', { session_id: 's' }));
    expect(await call('conversation.prompt', PROMPT)).toHaveProperty('error.data.reason', 'cancelled');
    expect(await call('conversation.status', { session_id: 's' })).toHaveProperty('result.status', 'cancelled');
    // The two other calls are counted, too.
    expect([await counted(), await messages(call)]).toEqual([before + 3, 3]);
  });

  it('a prompt whose commit fails twice without a response is refused, and nothing of it is stored', async () => {
    const call = await start();
    await call('conversation.prompt', PROMPT);
    faults.push('lost', 'lost');
    expect(await call('conversation.prompt', PROMPT)).toHaveProperty('error.data.reason', 'unavailable');
    expect([await counted(), await messages(call)]).toEqual([1, 2]);
  });

  it.each([1, 2])(
    'two prompts of one idempotency key at the same time, on %i instances, are one turn and two calls',
    async (count) => {
      const calls = await Promise.all(Array.from({ length: count }, start));
      for (const call of calls) await call('conversation.prompt', { ...PROMPT, session_id: 'warm' });
      const before = await counted();
      const [first = calls[0], second = first] = calls;
      if (first === undefined || second === undefined) throw new Error('no instance');
      const answers = await Promise.all(
        [first, second].map((call) => call('conversation.prompt', { ...PROMPT, idempotency_key: 'k' })),
      );
      const turns = answers.map(({ result }) => (result as { turn_id?: string } | undefined)?.turn_id);
      expect(turns).toEqual([expect.any(String), turns[0]]);
      expect([await counted(), await messages(first)]).toEqual([before + 2, 2]);
    },
  );
});
