// An idle connection to a provider is used again after any silence for which the provider keeps it, a closed one is
// replaced without an error, and one that a prompt will need is opened ahead of it.
import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import type { AddressInfo, Server, Socket } from 'node:net';
import tls, { type TLSSocket } from 'node:tls';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { createConnections, IDLE_MS_MAX } from '../../../../shared/engines/direct/providers/connections.ts';
import { createGuardedFetch } from '../../../../shared/engines/direct/providers/provider-fetch.ts';
import { createTestClock } from '../../../support/fixtures/limiter/rate-limit.ts';
import { makeCertificate } from '../../../support/fixtures/network/certificate.ts';

const closing: (() => void)[] = [];
afterEach(() => {
  vi.useRealTimers();
  for (const close of closing.splice(0)) close();
});

interface Provider {
  readonly url: string;
  readonly sockets: Socket[];
  readonly bodies: string[];
}

/**
 * `answer`: whether to answer request `n` (from 1) of connection `socket` (from 1); else its connection is destroyed.
 */
async function start(server: http.Server, answer = (_socket: number, _n: number): boolean => true): Promise<Provider> {
  const sockets: Socket[] = [];
  const bodies: string[] = [];
  const counts = new Map<Socket, number>();
  const isSecure = server instanceof https.Server;
  server.on(isSecure ? 'secureConnection' : 'connection', (socket: Socket) => void sockets.push(socket));
  server.keepAliveTimeout = 0;
  server.on('request', async (request: http.IncomingMessage, response: http.ServerResponse) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    bodies.push(body);
    const n = (counts.get(request.socket) ?? 0) + 1;
    counts.set(request.socket, n);
    if (answer(sockets.indexOf(request.socket) + 1, n)) response.end('done');
    else request.socket.destroy();
  });
  server.listen(0, 'localhost');
  await once(server, 'listening');
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `${isSecure ? 'https' : 'http'}://localhost:${port}/`, sockets, bodies };
}

type GuardedFetch = ReturnType<typeof createGuardedFetch>;

async function post(fetch: GuardedFetch, url: string, body = 'prompt'): Promise<string> {
  const { body: stream } = await fetch(url, { method: 'POST', body });
  const reader = stream?.getReader();
  let text = '';
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true, value: undefined };
    if (done) break;
    text += Buffer.from(value as Uint8Array).toString();
  }
  // The connection returns to the pool.
  await new Promise((resolve) => setImmediate(resolve));
  return text;
}

describe('an idle connection', () => {
  it('an idle connection is used again after 5 seconds, 30 seconds and 5 minutes of silence', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'Date', 'performance'] });
    const { url, sockets } = await start(http.createServer());
    const fetch = createGuardedFetch();
    await post(fetch, url);
    for (const silenceMs of [5_000, 30_000, 300_000]) {
      vi.advanceTimersByTime(silenceMs);
      expect(await post(fetch, url)).toBe('done');
    }
    expect(sockets).toHaveLength(1);
    // The agent's own timer, which no test can move.
    expect(Reflect.get(createConnections('https:').agent, 'options')).toMatchObject({ timeout: IDLE_MS_MAX });
    expect(IDLE_MS_MAX).toBeGreaterThan(300_000);
  });

  it.each([
    ['a frozen instance', { wallMs: 60_000, monotonicMs: 60_000 }],
    ['a laptop that slept', { wallMs: 60_000, monotonicMs: 0 }],
  ])('an idle connection of %s is not used again', async (_, { wallMs, monotonicMs }) => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'Date', 'performance'] });
    const { url, sockets } = await start(http.createServer());
    const fetch = createGuardedFetch();
    await post(fetch, url);
    // No tick runs while the process is stopped.
    vi.setSystemTime(Date.now() + wallMs);
    const now = performance.now();
    vi.spyOn(performance, 'now').mockImplementation(() => now + monotonicMs);
    expect(await post(fetch, url)).toBe('done');
    vi.restoreAllMocks();
    expect(sockets).toHaveLength(2);
  });

  it('an idle connection that the provider has closed is replaced once, unnoticed, and the prompt is sent as it was', async () => {
    const { url, sockets, bodies } = await start(http.createServer(), (_socket, n) => n === 1);
    const fetch = createGuardedFetch();
    await post(fetch, url, 'one');
    expect(await post(fetch, url, 'two')).toBe('done');
    expect(bodies).toEqual(['one', 'two', 'two']);
    expect(sockets).toHaveLength(2);
  });

  it('an idle connection is replaced once only, and a new connection that is closed is an error for the engine', async () => {
    const { url, bodies } = await start(http.createServer(), (socket, n) => socket === 1 && n === 1);
    const fetch = createGuardedFetch();
    await post(fetch, url, 'one');
    await expect(post(fetch, url, 'two')).rejects.toThrow('fetch failed');
    expect(bodies).toEqual(['one', 'two', 'two']);
    await expect(post(createGuardedFetch(), url, 'three')).rejects.toThrow('fetch failed');
    expect(bodies).toHaveLength(4);
  });

  it('an idle connection is not replaced when the prompt was aborted', async () => {
    const controller = new AbortController();
    const { url, bodies } = await start(http.createServer(), (_socket, n) => {
      if (n === 2) controller.abort(new Error('cancelled'));
      return n === 1;
    });
    const fetch = createGuardedFetch();
    await post(fetch, url, 'one');
    const second = fetch(url, { method: 'POST', body: 'two', signal: controller.signal });
    await expect(second).rejects.toThrow('cancelled');
    expect(bodies).toEqual(['one', 'two']);
  });
});

describe('a connection ahead of a prompt', () => {
  it('a connection ahead of a prompt is opened when none is idle, and the prompt uses it', async () => {
    const { url, sockets } = await start(http.createServer());
    const fetch = createGuardedFetch();
    fetch.openAhead();
    await post(fetch, url);
    expect(sockets).toHaveLength(1);
    fetch.openAhead();
    expect(await post(fetch, url)).toBe('done');
    expect(sockets).toHaveLength(1);
    const [first] = sockets;
    first?.end();
    await once(first as Socket, 'close');
    fetch.openAhead();
    fetch.openAhead();
    await expect.poll(() => sockets.length).toBe(2);
    expect(await post(fetch, url)).toBe('done');
    expect(sockets).toHaveLength(2);
  });

  it('a connection ahead of a prompt is opened without the credential of the prompt before', async () => {
    const connect = vi.spyOn(http.Agent.prototype, 'createConnection');
    const { url, sockets } = await start(http.createServer());
    const { request, agent, openAhead } = createConnections('http:');
    const headers = { authorization: 'Bearer secret' };
    await new Promise((resolve) =>
      request(url, { agent, headers }, (message) => message.resume().on('end', resolve)).end(),
    );
    sockets[0]?.destroy();
    await expect.poll(() => Object.keys(agent.freeSockets)).toEqual([]);
    openAhead();
    await expect.poll(() => sockets.length).toBe(2);
    expect(connect.mock.lastCall?.[0]).toMatchObject({ host: 'localhost' });
    expect(connect.mock.lastCall?.[0].headers).toBeUndefined();
  });

  it('a connection ahead of a prompt resumes the TLS session of the one before', async () => {
    const certificate = makeCertificate('localhost');
    const trusted = tls.getCACertificates('default');
    tls.setDefaultCACertificates([...trusted, certificate.cert]);
    closing.push(() => tls.setDefaultCACertificates(trusted));
    const { url, sockets } = await start(https.createServer(certificate));
    const fetch = createGuardedFetch();
    await post(fetch, url);
    sockets[0]?.end();
    await once(sockets[0] as Socket, 'close');
    await new Promise((resolve) => setImmediate(resolve));
    fetch.openAhead();
    await expect.poll(() => sockets.length).toBe(2);
    expect(await post(fetch, url)).toBe('done');
    expect(sockets).toHaveLength(2);
    expect((sockets[1] as TLSSocket).isSessionReused()).toBe(true);
  });

  it('a connection ahead of a prompt that the provider refuses or that nothing uses is no error', async () => {
    const server: Server = http.createServer((_request, response) => void response.end('done'));
    const { url } = await start(server as http.Server);
    const clock = createTestClock();
    const connections = createConnections('http:', { clock });
    const { request, agent } = connections;
    await new Promise((resolve) =>
      request(url, { agent, method: 'POST' }, (message) => message.resume().on('end', resolve)).end(),
    );
    for (const close of closing.splice(0)) close();
    await once(server, 'close');
    connections.closeIdle();
    connections.openAhead();
    await expect(new Promise((_, reject) => request(url, { agent }).on('error', reject).end())).rejects.toMatchObject({
      code: 'ECONNREFUSED',
    });
  });
});
