// An outage of the store admits only cheap reads, and the log of a call contains its outcome and nothing of its
// content.
import { afterEach, describe, expect, it } from 'vitest';
import { type Clock, systemClock } from '../../shared/clock.ts';
import * as methods from '../../shared/methods/index.ts';
import { createEmbeddedStore } from '../../shared/store/embedded/embedded.ts';
import { type InProcessGateway, startInProcess } from '../support/fixtures/gateway/in-process.ts';
import { createTestClock, cutOff, type Line } from '../support/fixtures/limiter/rate-limit.ts';

const KEYS = JSON.stringify({
  keys: [
    { id: 'alice', key: 'key-alice' },
    { id: 'reader', key: 'key-reader', scopes: ['webhook'] },
  ],
});

const open: { gateway: InProcessGateway; store: Line }[] = [];
afterEach(async () => {
  for (const { gateway, store } of open.splice(0)) {
    store.state = 'up';
    await gateway.close();
    await store.close();
  }
});

async function start(clock: Clock = systemClock): Promise<{ gateway: InProcessGateway; store: Line }> {
  const store = cutOff(createEmbeddedStore({ path: ':memory:', clock }));
  const gateway = await startInProcess({ GATEWAY_KEYS: KEYS }, { store, clock });
  open.push({ gateway, store });
  return { gateway, store };
}

async function call(gateway: InProcessGateway, method: string, params: object, key = 'key-alice') {
  const response = await fetch(`${gateway.url}/jsonrpc`, {
    method: 'POST',
    headers: { 'x-api-key': key },
    body: JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 }),
  });
  return { status: response.status, headers: response.headers, payload: (await response.json()) as unknown };
}

/** The audit lines so far. */
function audit(gateway: InProcessGateway): Record<string, unknown>[] {
  return gateway
    .logged()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter(({ message }) => message === 'call');
}

describe('while the store is down', () => {
  it('a call that costs money is refused with 503 and Retry-After while the store is down, never 429', async () => {
    const { gateway, store } = await start();
    store.state = 'down';
    const { status, headers, payload } = await call(gateway, 'conversation.prompt', { prompt: 'hi' });
    expect(status).toBe(503);
    expect(Number(headers.get('retry-after'))).toBeGreaterThan(0);
    expect(payload).toMatchObject({ error: { code: 503, data: { reason: 'unavailable', retryable: true } } });
  });

  it.each(
    Object.values(methods)
      .filter(({ cost }) => cost === 'work')
      .map((method) => [method.name, method.example.params] as const),
  )(
    'a call that changes something, costs money or runs a command is 503 while the store is down: %s',
    async (name, params) => {
      const { gateway, store } = await start();
      store.state = 'down';
      // The third finds the outage known.
      for (let n = 0; n < 3; n++) {
        const { status, headers, payload } = await call(gateway, name, params);
        expect([status, payload]).toMatchObject([503, { error: { code: 503, data: { reason: 'unavailable' } } }]);
        expect(Number(headers.get('retry-after'))).toBeGreaterThan(0);
      }
      expect(audit(gateway).map(({ outcome }) => outcome)).toEqual(Array(3).fill('unavailable'));
    },
  );

  it('cheap reads beyond the bucket are 503 with Retry-After, never 429', async () => {
    const { gateway, store } = await start(createTestClock());
    await call(gateway, 'rpc.discover', {});
    store.state = 'down';
    const statuses: number[] = [];
    for (let n = 0; n < 15; n++) {
      const { status, headers } = await call(gateway, 'events.list', {});
      statuses.push(status);
      if (status === 503) expect(Number(headers.get('retry-after'))).toBeGreaterThan(0);
    }
    expect(statuses).toEqual([...Array(10).fill(200), ...Array(5).fill(503)]);
  });

  it('a batch with a call that costs money is refused as a whole while the store is down', async () => {
    const { gateway, store } = await start();
    store.state = 'down';
    const batch = ['rpc.discover', 'conversation.prompt'].map((method, id) => ({
      jsonrpc: '2.0',
      method,
      params: { prompt: 'x' },
      id,
    }));
    const response = await fetch(`${gateway.url}/jsonrpc`, {
      method: 'POST',
      headers: { 'x-api-key': 'key-alice' },
      body: JSON.stringify(batch),
    });
    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject([
      { id: 0, error: { code: 503 } },
      { id: 1, error: { code: 503 } },
    ]);
  });

  it('a cheap read is admitted by the instance’s own bucket, and everything works again afterwards', async () => {
    const { gateway, store } = await start();
    store.state = 'down';
    expect(await call(gateway, 'rpc.discover', {})).toMatchObject({
      status: 200,
      payload: { result: { openrpc: '1.4.0' } },
    });
    expect(audit(gateway).at(-1)).toMatchObject({ outcome: 'ok', rate: 'admitted (degraded)' });
    store.state = 'up';
    expect(await call(gateway, 'conversation.prompt', { prompt: 'hi' })).toMatchObject({ status: 200 });
  });
});

describe('the audit line of a call', () => {
  it('the audit line has caller, method, outcome, duration and the decision of the limiter', async () => {
    const { gateway } = await start();
    await call(gateway, 'conversation.status', { session_id: 's' });
    expect(audit(gateway)).toEqual([
      expect.objectContaining({
        severity: 'INFO',
        message: 'call',
        request_id: expect.stringMatching(/^req_/),
        key_id: 'alice',
        transport: 'http',
        method: 'conversation.status',
        outcome: 'ok',
        ms: expect.any(Number),
        rate: 'admitted',
        remaining: expect.any(Number),
      }),
    ]);
  });

  it('the audit line of a cancelled prompt contains its model and provider', async () => {
    const { gateway } = await start();
    const params = { session_id: 's', prompt: 'hi', model: 'offline/slow' };
    const answered = call(gateway, 'conversation.prompt', params);
    const cancel = async (): Promise<unknown> =>
      (await call(gateway, 'conversation.cancel', { session_id: 's' })).payload;
    await expect.poll(cancel).toMatchObject({ result: { cancelled: true } });
    expect((await answered).payload).toMatchObject({ error: { data: { reason: 'cancelled' } } });
    const line = { method: 'conversation.prompt', outcome: 'cancelled', session_id: 's', turn_id: expect.any(String) };
    expect(audit(gateway)).toContainEqual(
      expect.objectContaining({ ...line, model: 'offline/slow', provider: 'offline' }),
    );
  });

  it('the audit line of a call is there for failures, one a call, with the reason', async () => {
    const { gateway } = await start();
    await call(gateway, 'conversation.prompt', { prompt: 'hi' }, 'key-reader');
    await call(gateway, 'conversation.status', {});
    await call(gateway, 'made.up', {});
    expect(audit(gateway).map(({ key_id, method, outcome }) => [key_id, method, outcome])).toEqual([
      ['reader', 'conversation.prompt', 'forbidden'],
      ['alice', 'conversation.status', 'invalid_params'],
      ['alice', 'unknown', 'method_not_found'],
    ]);
  });

  it('the audit line of a call keeps nothing of prompts, answers, params or keys', async () => {
    const { gateway } = await start();
    await call(gateway, 'conversation.prompt', { prompt: 'hunter2', session_id: 'a-session' });
    await call(gateway, 'conversation.prompt', { prompt: 5, hunter2: true });
    await call(gateway, 'hunter2', {});
    await call(gateway, 'conversation.status', { session_id: 'hunter2-session' });
    expect(audit(gateway)).toHaveLength(4);
    expect(gateway.logged()).not.toMatch(/hunter2|key-alice/);
  });
});
