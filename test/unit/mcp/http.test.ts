// The client works with remote MCP servers over Streamable HTTP, and ends those that violate the protocol. The suite
// uses the official server as a process of its own, one of the stateless era, and some that violate the protocol.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { assert, expect, it } from 'vitest';
import { auditCall } from '../../../shared/audit.ts';
import { RpcError } from '../../../shared/errors.ts';
import { createLogger } from '../../../shared/log.ts';
import { createTimings } from '../../../shared/telemetry/timings.ts';
import { createMcpFixture, endAfterwards, TEST_MODULES } from '../../support/fixtures/sandbox/mcp.ts';
import { createMcpListener } from '../../support/fixtures/sandbox/mcp-listener.ts';

/** The SDK's stateless server, which refuses the older era; records its requests. */
function createModernListener(seen: IncomingMessage[]): RequestListener {
  const answer = createMcpListener('modern', { legacy: 'reject' });
  return (req, res) => {
    seen.push(req);
    return answer(req, res);
  };
}

async function listen(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  endAfterwards(() => {
    server.closeAllConnections();
    server.close();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`;
}

async function startEverything(): Promise<string> {
  const port = await freePort();
  const file = join(TEST_MODULES, '@modelcontextprotocol/server-everything/dist/index.js');
  const child = spawn(process.execPath, [file, 'streamableHttp'], {
    env: { PORT: String(port) },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  endAfterwards(() => child.kill('SIGKILL'));
  await new Promise<void>((resolve, reject) => {
    child.once('exit', () => reject(new Error('the server ended')));
    child.stderr.on('data', (text) => String(text).includes('listening') && resolve());
  });
  return `http://127.0.0.1:${port}/mcp`;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

it('the client uses the stateless protocol with a remote server, with the administrator’s headers', async () => {
  const seen: IncomingMessage[] = [];
  const url = await listen(createModernListener(seen));
  const fixture = await createMcpFixture({ remote: { url, headers: { Authorization: 'Bearer canary-secret' } } });
  const { protocolVersion, transport } = await fixture.connect({ name: 'remote' });
  expect({ protocolVersion, transport }).toEqual({ protocolVersion: '2026-07-28', transport: 'http' });
  expect(await fixture.call({ name: 'remote' }, 'add', { a: 1, b: 2 })).toMatchObject({ content: [{ text: '3' }] });
  expect(new Set(seen.map(({ headers }) => headers.authorization))).toEqual(new Set(['Bearer canary-secret']));
  expect(fixture.logged.join('')).not.toContain('canary-secret');
});

it('the client uses the older protocol with the official server, and ends its session', async () => {
  const url = await startEverything();
  const fixture = await createMcpFixture({ remote: { url } });
  const { protocolVersion } = await fixture.connect({ name: 'remote' });
  expect(protocolVersion).toBe('2025-11-25');
  expect(await fixture.call({ name: 'remote' }, 'get-sum', { a: 20, b: 22 })).toMatchObject({
    content: [{ text: 'The sum of 20 and 22 is 42.' }],
  });
  await fixture.mcp.disconnect({ owner: 'a', sessionId: 's', name: 'remote' });
});

it('the client does not follow a redirect to an internal address', async () => {
  const url = await listen((_req, res) => res.writeHead(307, { location: 'http://169.254.169.254/mcp' }).end());
  const fixture = await createMcpFixture({ remote: { url } });
  await expect(fixture.connect({ name: 'remote' })).rejects.toMatchObject({ reason: 'forbidden' });
});

it.each([
  ['an answer without end', 'application/json'],
  ['a line without end', 'text/event-stream'],
  ['an event of lines without end', 'text/event-stream'],
])('the client ends the connection at its bound when the server sends %s', async (what, type) => {
  const piece = what.includes('of lines') ? `data: ${'x'.repeat(1 << 16)}\n` : 'x'.repeat(1 << 16);
  let sent = 0;
  const url = await listen((_req, res) => {
    res.writeHead(200, { 'content-type': type });
    res.write(type === 'application/json' ? '"' : 'data: "');
    const more = (): void => {
      while (!res.destroyed && res.write(piece)) sent += 1 << 16;
    };
    res.on('drain', more);
    more();
  });
  const fixture = await createMcpFixture({ remote: { url } });
  await expect(fixture.connect({ name: 'remote' })).rejects.toMatchObject({ reason: 'upstream_error' });
  expect(sent).toBeLessThan(32 << 20);
});

it.each(['application/json', 'text/event-stream'])(
  'the client ends %s whose value would take too much memory',
  async (type) => {
    const value = `{"jsonrpc":"2.0","id":0,"result":{"a":[${'{},'.repeat(1_200_000)}{}]}}`;
    const url = await listen((_req, res) => {
      res.writeHead(200, { 'content-type': type }).end(type === 'application/json' ? value : `data: ${value}\n\n`);
    });
    const fixture = await createMcpFixture({ remote: { url } });
    await expect(fixture.connect({ name: 'remote' })).rejects.toMatchObject({
      reason: 'upstream_error',
      message: expect.stringContaining('a message takes more than 64 MiB of memory'),
    });
  },
);

it.each([401, 404, 500])('a server that answers HTTP %i is upstream_error', async (status) => {
  const url = await listen((_req, res) => res.writeHead(status).end('no'));
  const fixture = await createMcpFixture({ remote: { url } });
  await expect(fixture.connect({ name: 'remote' })).rejects.toMatchObject({ reason: 'upstream_error' });
});

it('the body of a refusal is not logged, because it may repeat what the server received', async () => {
  const answer = createModernListener([]);
  let isBroken = false;
  const url = await listen((req, res) => {
    if (isBroken) res.writeHead(500).end(`${req.headers.authorization} ${'x'.repeat(100_000)}`);
    else answer(req, res);
  });
  const fixture = await createMcpFixture({ remote: { url, headers: { Authorization: 'Bearer canary-secret' } } });
  await fixture.connect({ name: 'remote' });
  isBroken = true;
  const error = await fixture.call({ name: 'remote' }, 'add', { a: 1, b: 2 }).catch((thrown: unknown) => thrown);
  assert(error instanceof RpcError);
  const logged: string[] = [];
  const log = createLogger({ format: 'json', write: (text) => logged.push(text) });
  const record = { method: 'mcp.call', outcome: error.reason, durationMs: 1, error, details: {} };
  const caller = { keyId: 'a', scopes: new Set<never>(), limits: [], digest: new Uint8Array(32) };
  auditCall(log, record, { requestId: 'r', caller, transport: 'http', rate: undefined, timings: createTimings() });
  log.flush();
  expect(JSON.parse(logged.join(''))).toMatchObject({ error: 'MCP server "remote" failed (HTTP 500)' });
  expect(logged.join('') + fixture.logged.join('')).not.toMatch(/canary-secret|x{100}/);
});

it('a server that is not running is upstream_error', async () => {
  const fixture = await createMcpFixture({ remote: { url: `http://127.0.0.1:${await freePort()}/mcp` } });
  await expect(fixture.connect({ name: 'remote' })).rejects.toMatchObject({ reason: 'upstream_error' });
});
