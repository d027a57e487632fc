// Requests and notifications over a sandbox link are answered in both directions, bounded in number and size.
import { afterEach, expect, it } from 'vitest';
import { RpcError } from '../../../shared/errors.ts';
import { PROTOCOL } from '../../../shared/sandbox-link/link/connect/hello.ts';
import { CONTROL_BYTES_MAX, type Handlers, REQUESTS_MAX } from '../../../shared/sandbox-link/link/link.ts';
import { createLinkFixture, FACTS, type LinkFixture } from '../../support/fixtures/sandbox/sandbox-link.ts';

const open: LinkFixture[] = [];
async function fixtureOf(options: Parameters<typeof createLinkFixture>[0] = {}): Promise<LinkFixture> {
  const fixture = await createLinkFixture(options);
  open.push(fixture);
  return fixture;
}
afterEach(async () => {
  await Promise.all(open.splice(0).map((fixture) => fixture.stop()));
});

const echo: Handlers = { echo: async (params) => params };

it('requests in both directions are answered, with the facts of the sandbox and one id on both sides', async () => {
  const { gateway, sandbox } = await fixtureOf({ onGateway: echo, onSandbox: echo });
  expect(await gateway.request('echo', { text: 'ä€😀' })).toEqual({ text: 'ä€😀' });
  expect(await sandbox.request('echo', [1, null])).toEqual([1, null]);
  expect(gateway.sandbox).toEqual({ ...FACTS, protocol: PROTOCOL });
  expect(gateway.id).toBe(sandbox.id);
});

it('a request whose handler returns nothing is answered with null', async () => {
  const { gateway } = await fixtureOf({ onSandbox: { nothing: async () => undefined } });
  expect(await gateway.request('nothing', {})).toBeNull();
});

it('an RpcError crosses the link with reason, message, data, delay and whether a retry may help', async () => {
  const onSandbox: Handlers = {
    async refuse() {
      const data = { limit: 8, deep: { text: 'x' } };
      throw new RpcError('queue_full', { message: 'eight wait', data, retryAfterMs: 1_500, retryable: false });
    },
  };
  const { gateway } = await fixtureOf({ onSandbox });
  const error = await gateway.request('refuse', {}).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(RpcError);
  expect(error).toMatchObject({ reason: 'queue_full', message: 'eight wait', retryAfterMs: 1_500, retryable: false });
  expect(error).toHaveProperty('data', { limit: 8, deep: { text: 'x' } });
});

it('any other error is masked as internal, and its cause is logged', async () => {
  const onSandbox: Handlers = {
    async fail() {
      throw new Error('/secret/path');
    },
    circular: async () => {
      const value: Record<string, unknown> = {};
      value.self = value;
      return value;
    },
  };
  const { gateway, sandbox, logged } = await fixtureOf({ onSandbox });
  expect(await gateway.request('fail', {}).catch(String)).not.toContain('secret');
  await expect(gateway.request('fail', {})).rejects.toMatchObject({ reason: 'internal', data: {} });
  await expect(gateway.request('circular', {})).rejects.toMatchObject({ reason: 'internal' });
  await sandbox.close();
  expect(logged.join('')).toContain('/secret/path');
});

it.each(['missing', 'toString', '__proto__', 'constructor'])(
  'a request for %s is answered with method_not_found',
  async (method) => {
    const { gateway } = await fixtureOf({ onSandbox: echo });
    await expect(gateway.request(method, {})).rejects.toMatchObject({ reason: 'method_not_found' });
  },
);

it('the handler is cancelled when the caller aborts, and the link stays usable', async () => {
  const aborted = Promise.withResolvers<unknown>();
  const begun = Promise.withResolvers<void>();
  const onSandbox: Handlers = {
    ...echo,
    wait: (_params, { signal }) => {
      begun.resolve();
      return new Promise((_, reject) => {
        signal.addEventListener('abort', () => {
          aborted.resolve(signal.reason);
          reject(signal.reason);
        });
      });
    },
  };
  const { gateway } = await fixtureOf({ onSandbox });
  const controller = new AbortController();
  const call = gateway.request('wait', {}, controller.signal);
  await begun.promise;
  controller.abort(new Error('the caller left'));
  await expect(call).rejects.toThrow('the caller left');
  expect(await aborted.promise).toMatchObject({ reason: 'cancelled' });
  expect(await gateway.request('echo', 1)).toBe(1);
  await expect(gateway.request('echo', 1, controller.signal)).rejects.toThrow('the caller left');
});

it('params, results and notifications that do not fit into a control message are refused', async () => {
  const large = 'x'.repeat(CONTROL_BYTES_MAX);
  const onSandbox: Handlers = {
    ...echo,
    large: async () => large,
    fail: async () => {
      throw new RpcError('conflict', { message: large, data: { large } });
    },
  };
  const { gateway } = await fixtureOf({ onSandbox });
  const tooLarge = { reason: 'payload_too_large', data: { limit_bytes: CONTROL_BYTES_MAX } };
  await expect(gateway.request('echo', large)).rejects.toMatchObject(tooLarge);
  await expect(gateway.request('large', {})).rejects.toMatchObject(tooLarge);
  await expect(gateway.request('fail', {})).rejects.toMatchObject({ reason: 'conflict', message: 'Conflict' });
  expect(() => gateway.notify('echo', large)).toThrow('Payload too large');
  const fits = 'x'.repeat(CONTROL_BYTES_MAX - 200);
  expect(await gateway.request('echo', fits)).toBe(fits);
});

it('notifications are delivered in order with requests, and failures of their handlers are ignored', async () => {
  const order: unknown[] = [];
  const onSandbox: Handlers = {
    async add(params) {
      order.push(params);
      if (params === 3) throw new Error('fails');
    },
    list: async () => order,
  };
  const { gateway } = await fixtureOf({ onSandbox });
  for (const value of [1, 2, 3]) gateway.notify('add', value);
  const listed = gateway.request('list', {});
  gateway.notify('missing', {});
  gateway.notify('add', 4);
  await listed;
  await gateway.request('list', {});
  expect(order).toEqual([1, 2, 3, 4]);
});

it('a bounded number of 10,000 concurrent requests runs, and the others are refused', async () => {
  let running = 0;
  let peak = 0;
  const gate = Promise.withResolvers<void>();
  const full = Promise.withResolvers<void>();
  const onSandbox: Handlers = {
    async wait(params) {
      peak = Math.max(peak, ++running);
      if (running === REQUESTS_MAX) full.resolve();
      await gate.promise;
      running--;
      return params;
    },
  };
  const { gateway } = await fixtureOf({ onSandbox });
  const calls = Array.from({ length: 10_000 }, (_, index) =>
    gateway.request('wait', index).then(
      () => 'answered',
      ({ reason }: RpcError) => reason,
    ),
  );
  const refused = await Promise.all(calls.slice(REQUESTS_MAX));
  await full.promise;
  gate.resolve();
  const answered = await Promise.all(calls.slice(0, REQUESTS_MAX));
  expect(new Set(refused)).toEqual(new Set(['unavailable']));
  expect(new Set(answered)).toEqual(new Set(['answered']));
  expect(peak).toBe(REQUESTS_MAX);
  expect(await gateway.request('wait', 'again')).toBe('again');
});

it('every request rejects and every handler aborts when a side closes the link', async () => {
  const begun = Promise.withResolvers<AbortSignal>();
  const onSandbox: Handlers = {
    wait: (_params, { signal }) => {
      begun.resolve(signal);
      return new Promise(() => {});
    },
  };
  const { gateway, sandbox, server } = await fixtureOf({ onSandbox });
  const failure = gateway.request('wait', {}).catch((error: unknown) => error);
  const signal = await begun.promise;
  await gateway.close('the gateway stops');
  const unavailable = { reason: 'unavailable', message: expect.stringContaining('the gateway stops') };
  expect(await failure).toMatchObject(unavailable);
  expect(gateway.over.aborted).toBe(true);
  if (!sandbox.over.aborted) await new Promise((resolve) => sandbox.over.addEventListener('abort', resolve));
  expect(signal.reason).toMatchObject({ reason: 'unavailable' });
  expect(server.links.size).toBe(0);
  await expect(gateway.request('wait', {})).rejects.toMatchObject({ reason: 'unavailable' });
  expect(() => gateway.openStream()).toThrow(RpcError);
  gateway.notify('wait', {});
});
