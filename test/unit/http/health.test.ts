// `GET /health` touches no dependency; its verbose form checks all of them, for callers with a key.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import WebSocket from 'ws';
import { createCompanionServer } from '../../../functions/companion/companion.ts';
import { createHealthHandler } from '../../../functions/health/handler.ts';
import { systemClock } from '../../../shared/clock.ts';
import { loadConfig } from '../../../shared/config/load-config.ts';
import { createServices } from '../../../shared/create-services.ts';
import { RpcError } from '../../../shared/errors.ts';
import { createLogger } from '../../../shared/log.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded/embedded.ts';
import { startInProcess } from '../../support/fixtures/gateway/in-process.ts';
import { countOperations } from '../../support/fixtures/limiter/rate-limit.ts';

const KEY = { 'x-api-key': 'dev-key' };
const KEYS = JSON.stringify({
  keys: [
    { id: 'default', key: 'dev-key', scopes: ['conversation'] },
    { id: 'admin', key: 'key-with-admin-00', scopes: ['admin'] },
    { id: 'other', key: 'key-without-it-00', scopes: ['conversation', 'workspace', 'webhook'] },
  ],
});
const SYSTEM_HEALTH = '{"jsonrpc":"2.0","id":1,"method":"system.health"}';
const headersOf = (key: string) => ({ 'x-api-key': key === 'admin' ? 'key-with-admin-00' : 'key-without-it-00' });

async function callByHttp(url: string, key: string): Promise<object> {
  const response = await fetch(`${url}/jsonrpc`, { method: 'POST', headers: headersOf(key), body: SYSTEM_HEALTH });
  const headers = { httpStatus: response.status, retryAfter: response.headers.get('retry-after') };
  return { ...((await response.json()) as object), ...headers };
}

async function callBySocket(url: string, key: string): Promise<object> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/ws`, { headers: headersOf(key) });
  await once(socket, 'open');
  socket.send(SYSTEM_HEALTH);
  const [message] = (await once(socket, 'message')) as [WebSocket.RawData];
  socket.terminate();
  return JSON.parse(String(message)) as object;
}
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** What the checks call, and which of them fail. */
type Name = 'store' | 'bus' | 'keys';

async function start(limits = '100/minute', env: Readonly<Record<string, string>> = {}) {
  const failing = new Set<Name>();
  const pings: Name[] = [];
  const ping = (name: Name) => async () => {
    pings.push(name);
    if (failing.has(name)) throw new RpcError('unavailable');
  };
  const counted = countOperations(createEmbeddedStore({ path: ':memory:', clock: systemClock }));
  const store = { ...counted, ping: ping('store') };
  const gateway = await startInProcess({ GATEWAY_LIMITS: limits, GATEWAY_KEYS: KEYS, ...env }, { store });
  const { bus, keys } = gateway.services;
  Object.assign(bus, { ping: ping('bus') });
  Object.assign(keys, { ping: ping('keys') });
  closing.push(() => counted.close(), gateway.close);
  const get = (query = '', headers: Record<string, string> = {}) => fetch(`${gateway.url}/health${query}`, { headers });
  return { gateway, counted, failing, pings, get };
}

describe('a probe', () => {
  it('a probe is answered without a credential and without touching a dependency, also while all of them fail', async () => {
    const { counted, failing, pings, get } = await start();
    for (const name of ['store', 'bus', 'keys'] as const) failing.add(name);
    counted.reset();
    for (const query of ['', '?verbose=0', '?verbose=false', '?x=1']) {
      const response = await get(query, { 'x-api-key': 'wrong' });
      expect([response.status, await response.text()]).toEqual([200, '{"status":"healthy"}']);
    }
    expect([counted.total(), pings]).toEqual([0, []]);
  });

  it('/health responds to GET and HEAD, with 405 to POST and 404 below its path', async () => {
    const { gateway } = await start();
    expect((await fetch(`${gateway.url}/health`, { method: 'HEAD' })).status).toBe(200);
    expect((await fetch(`${gateway.url}/health`, { method: 'POST', body: '{}' })).status).toBe(405);
    expect((await fetch(`${gateway.url}/health/x`)).status).toBe(404);
  });
});

describe('the verbose check', () => {
  it('the verbose check needs a key, in a header', async () => {
    const { get, pings } = await start();
    for (const query of ['?verbose=1', '?verbose=1&api_key=dev-key']) {
      const response = await get(query);
      expect([response.status, response.headers.get('www-authenticate')]).toEqual([
        401,
        expect.stringMatching(/^Bearer/),
      ]);
    }
    expect(pings).toEqual([]);
  });

  it('the verbose check has a check with a latency for each dependency, and the limits of the caller', async () => {
    const { get } = await start('2/day');
    const response = await get('?verbose=1', KEY);
    const ok = { status: 'ok', latency_ms: expect.any(Number) };
    expect([response.status, await response.json()]).toEqual([
      200,
      { status: 'healthy', checks: { store: ok, bus: ok, keys: ok } },
    ]);
    expect([response.headers.get('x-ratelimit-limit'), response.headers.get('x-ratelimit-remaining')]).toEqual([
      '2',
      '1',
    ]);
    await get('?verbose=1', KEY);
    const refused = await get('?verbose=1', KEY);
    expect(refused.status).toBe(429);
    for (const name of ['x-ratelimit-limit', 'x-ratelimit-remaining', 'x-ratelimit-reset', 'retry-after']) {
      expect(refused.headers.get(name), name).toMatch(/^\d+$/);
    }
  });

  it.each(['store', 'bus', 'keys'] as const)('the verbose check is 503 "degraded" where %s fails', async (name) => {
    const { failing, get } = await start();
    failing.add(name);
    const response = await get('?verbose=1', KEY);
    expect(response.status).toBe(503);
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0);
    const { status, checks } = (await response.json()) as {
      readonly status: string;
      readonly checks: Record<string, { readonly status: string; readonly latency_ms: number }>;
    };
    expect(status).toBe('degraded');
    expect(Object.keys(checks).filter((one) => checks[one]?.status === 'failed')).toEqual([name]);
    expect(checks[name]?.latency_ms).toBeTypeOf('number');
  });

  it.each(['http', 'ws'] as const)(
    'system.health reports the same over %s, for keys with scope admin',
    async (transport) => {
      const { failing, gateway, pings } = await start();
      const call = transport === 'http' ? callByHttp : callBySocket;
      const ok = { status: 'ok', latency_ms: expect.any(Number) };
      const checks = { store: ok, bus: ok, keys: ok };
      expect(await call(gateway.url, 'admin')).toMatchObject({ result: { status: 'healthy', checks } });
      failing.add('bus');
      const failed = { status: 'failed', latency_ms: expect.any(Number) };
      expect(await call(gateway.url, 'admin')).toMatchObject({
        ...(transport === 'http' && { httpStatus: 503, retryAfter: '5' }),
        error: {
          code: 503,
          message: 'Service unavailable: bus failed the check',
          data: { reason: 'unavailable', retryable: true, status: 'degraded', checks: { ...checks, bus: failed } },
        },
      });
      pings.length = 0;
      expect(await call(gateway.url, 'other')).toMatchObject({
        error: { code: 403, data: { missing_scope: 'admin' } },
      });
      expect(pings).toEqual([]);
    },
  );

  it('both checks include the companion of a function: it answers, it is degraded, it is away', async () => {
    let status = 200;
    const paths: string[] = [];
    const companion = createServer((req, res) => {
      paths.push(req.url ?? '');
      res.writeHead(status).end('{}');
    });
    companion.listen(0, '127.0.0.1');
    await once(companion, 'listening');
    const url = `http://127.0.0.1:${(companion.address() as AddressInfo).port}`;
    const { gateway, get } = await start(undefined, { COMPANION_URL: url, COMPANION_AUDIENCE: url });
    expect(await (await get('?verbose=1', KEY)).json()).toMatchObject({ checks: { companion: { status: 'ok' } } });
    expect(paths).toEqual(['/health']);
    const failed = { error: { code: 503, message: 'Service unavailable: companion failed the check' } };
    status = 503;
    expect(await callByHttp(gateway.url, 'admin')).toMatchObject(failed);
    companion.closeAllConnections();
    companion.close();
    expect(await callByHttp(gateway.url, 'admin')).toMatchObject(failed);
  });

  it('the verbose check is there on the companion, which reads keys as well', async () => {
    const config = loadConfig({ GATEWAY_STORE: 'memory', GATEWAY_BUS: 'local' });
    const services = await createServices(config, { log: createLogger({ format: 'json', write() {} }) });
    const server = createCompanionServer(services, new Map());
    const get = await listen(server);
    closing.push(() => services.close());
    expect(await (await get('')).json()).toEqual({ status: 'healthy' });
    expect((await get('?verbose=1')).status).toBe(401);
    expect(await (await get('?verbose=1', KEY)).json()).toMatchObject({ status: 'healthy', checks: { store: {} } });
  });

  it('the verbose check is 404 where the service can read no keys', async () => {
    const handler = createHealthHandler({ has: () => false }, async () => undefined);
    const get = await listen(createServer((req, res) => void handler(req, res)));
    expect((await get('')).status).toBe(200);
    for (const headers of [{}, KEY]) {
      const response = await get('?verbose=1', headers);
      expect([response.status, await response.json()]).toMatchObject([404, { error: { code: 404 } }]);
    }
  });
});

async function listen(server: ReturnType<typeof createServer>) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo;
  return (query: string, headers: Record<string, string> = {}) =>
    fetch(`http://127.0.0.1:${port}/health${query}`, { headers });
}
