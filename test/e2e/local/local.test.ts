// `npm start` through npm on the machine's Node: it prints one line when it is ready. Mistakes in the environment are
// reported with one line each and exit code 1. Acknowledged data is kept over a restart.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer as createHttpServer, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, it } from 'vitest';
import { connect as connectSocket } from '../../support/fixtures/gateway/companion.ts';
import { type LocalGateway, ROOT, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';

const running: LocalGateway[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((gateway) => gateway.stop()));
});

async function start(...args: Parameters<typeof startLocalGateway>): Promise<LocalGateway> {
  const gateway = await startLocalGateway(...args);
  running.push(gateway);
  return gateway;
}

/** PATH without the runtime that npm scripts put in front of it. */
const machinePath = (process.env.PATH ?? '')
  .split(delimiter)
  .filter((directory) => !directory.includes('node_modules'))
  .join(delimiter);

/** Runs the gateway with an environment in which it must not start. */
async function fail(
  env: Readonly<Record<string, string>>,
): Promise<{ code: unknown; stdout: string; lines: string[] }> {
  const data = mkdtempSync(join(tmpdir(), 'gateway-'));
  const child = spawn(process.execPath, [join(ROOT, 'functions/local/main.ts')], {
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      PORT: '0',
      GATEWAY_DATA_DIR: data,
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 15_000,
    killSignal: 'SIGKILL',
  });
  const exited = once(child, 'exit');
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const [code] = await exited;
  rmSync(data, { recursive: true, force: true });
  return { code, stdout, lines: stderr.trimEnd().split('\n') };
}

describe('npm start', () => {
  it('npm start is ready on the machine’s own Node and npm, with nothing set', async () => {
    const { stdout: version } = spawnSync('node', ['--version'], { env: { PATH: machinePath }, encoding: 'utf8' });
    const gateway = await start({ command: ['npm', 'start'], env: { PATH: machinePath } });
    process.stdout.write(`npm start, Node ${version.trim()}: ready after ${Math.round(gateway.readyMs)} ms\n`);
    const health = await fetch(`${gateway.url}/health`);
    expect(await health.json()).toEqual({ status: 'healthy' });
    expect(gateway.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
  });

  it('npm start prints its model, key and store; on SIGTERM it exits with 0 and closes WebSockets with 1012', async () => {
    const gateway = await startLocalGateway({ env: { GATEWAY_API_KEY: 'hunter2' } });
    const headers = { 'X-API-Key': 'hunter2' };
    const client = await connectSocket(`${gateway.url.replace('http', 'ws')}/ws`, { headers });
    const code = await gateway.stop();
    expect(code).toBe(0);
    expect(await client.closed).toEqual({ code: 1012, reason: 'reconnect' });
    expect(gateway.output()).toContain('offline/echo');
    expect(gateway.output()).not.toContain('hunter2');
  });

  it('npm start completes a call to a backend that is in flight at SIGTERM, and does not wait for silent connections', async () => {
    const requested = Promise.withResolvers<ServerResponse>();
    const backend = createHttpServer((_, res) => requested.resolve(res)).listen(0, '127.0.0.1');
    await once(backend, 'listening');
    const { port } = backend.address() as AddressInfo;
    const gateway = await startLocalGateway({ env: { BFF_BASE_URL: `http://127.0.0.1:${port}` } });
    const silent = connect(Number(new URL(gateway.url).port), '127.0.0.1');
    silent.on('error', () => {});
    await once(silent, 'connect');
    const answer = fetch(`${gateway.url}/jsonrpc`, {
      method: 'POST',
      headers: { 'x-api-key': 'dev-key' },
      body: JSON.stringify({ jsonrpc: '2.0', method: 'bff.proxy', params: { endpoint: '/', method: 'GET' }, id: 1 }),
    });
    const waiting = await requested.promise;
    const stopped = gateway.stop();
    // A refused connection shows that the signal has arrived; then the backend responds.
    await expect
      .poll(() =>
        fetch(`${gateway.url}/health`).then(
          () => 'open',
          () => 'closed',
        ),
      )
      .toBe('closed');
    waiting.writeHead(200, { 'content-type': 'application/json' }).end('{"late":true}');
    expect(await (await answer).json()).toMatchObject({ result: { status: 200, body: { late: true } } });
    expect(await stopped).toBe(0);
    silent.destroy();
    backend.close();
  });

  it('npm start keeps conversations, limits and events over a restart', async () => {
    const data = mkdtempSync(join(tmpdir(), 'gateway-'));
    const env = { GATEWAY_DATA_DIR: data, GATEWAY_LIMITS: '100/day' };
    const call = async (gateway: LocalGateway, method: string, params: object): Promise<Response> =>
      fetch(`${gateway.url}/jsonrpc`, {
        method: 'POST',
        headers: { 'x-api-key': 'dev-key' },
        body: JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 }),
      });
    const first = await startLocalGateway({ env });
    const prompt = await call(first, 'conversation.prompt', { prompt: 'remember', session_id: 's' });
    const { result } = (await prompt.json()) as { readonly result: { readonly conversation_id: string } };
    await fetch(`${first.url}/webhook`, {
      method: 'POST',
      headers: { 'x-api-key': 'dev-key' },
      body: '{"event":"a.b"}',
    });
    expect(await first.stop()).toBe(0);

    const second = await start({ env });
    const status = await call(second, 'conversation.status', { session_id: 's' });
    expect(status.headers.get('x-ratelimit-remaining')).toBe('97');
    expect(await status.json()).toMatchObject({ result: { conversation_id: result.conversation_id } });
    expect(await (await call(second, 'events.list', {})).json()).toMatchObject({
      result: { events: [{ event: 'a.b' }] },
    });
    expect(await second.stop()).toBe(0);
    rmSync(data, { recursive: true, force: true });
  });
});

describe('a gateway that cannot start', () => {
  it('npm start prints every mistake of its environment in one line, exits with 1 and never prints that it is ready', async () => {
    const { code, stdout, lines } = await fail({
      PORT: 'http',
      GATEWAY_LIMITS: '5',
      ALLOWED_ORIGINS: '*',
      GATEWAY_STORE: 'x',
    });
    expect(code).toBe(1);
    expect(stdout).toBe('');
    expect(lines).toEqual([
      'configuration is not valid:',
      ...['PORT', 'GATEWAY_LIMITS', 'GATEWAY_STORE', 'ALLOWED_ORIGINS'].map((name) =>
        expect.stringMatching(`^  ${name}: .+`),
      ),
    ]);
  });

  it.each([
    ['the development key reachable from elsewhere', { HOST: '0.0.0.0' }, /GATEWAY_API_KEY: .*HOST/],
    ['the development key set by hand', { HOST: '0.0.0.0', GATEWAY_API_KEY: 'dev-key' }, /dev-key is public/],
    ['keys that are not JSON', { GATEWAY_KEYS: '{"keys":' }, /GATEWAY_KEYS: the key document is not valid JSON/],
  ])('npm start refuses %s', async (_name, env, line) => {
    const { code, stdout, lines } = await fail(env);
    expect(code).toBe(1);
    expect(stdout).toBe('');
    expect(lines.slice(1)).toEqual([expect.stringMatching(line)]);
  });

  it('npm start exits with 1 and one line if its data directory cannot be made', async () => {
    const { code, stdout, lines } = await fail({ GATEWAY_DATA_DIR: '/dev/null/data' });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(lines).toHaveLength(1);
  });

  it('npm start exits with 1 and one line if its port is taken', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const { code, stdout, lines } = await fail({ PORT: String(port) });
    taken.close();
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(lines).toEqual([expect.stringContaining('EADDRINUSE')]);
  });
});
