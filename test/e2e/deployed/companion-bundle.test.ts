// The companion starts from its bundle alone, as it is deployed, and drains on SIGTERM.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { copyBundle } from '../../support/fixtures/gateway/bundles.ts';
import { connect } from '../../support/fixtures/gateway/companion.ts';

let outdir: string;
beforeAll(async () => {
  outdir = await mkdtemp(join(tmpdir(), 'companion-'));
  await copyBundle('companion', join(outdir, 'companion'));
}, 120_000);
afterAll(() => rm(outdir, { recursive: true }));

/** Starts the bundle with a port and these variables only. */
async function start(
  env: Readonly<Record<string, string>>,
): Promise<{ readonly child: ChildProcess; readonly url: string }> {
  const child = spawn(process.execPath, ['main.js'], {
    cwd: join(outdir, 'companion'),
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      PORT: '0',
      NODE_ENV: 'production',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const lines: string[] = [];
  const port = await new Promise<string>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        lines.push(line);
        const found = /"companion listens","port":(\d+)/.exec(line);
        if (found?.[1] !== undefined) resolve(found[1]);
      });
    }
    child.once('close', (code) => reject(new Error(`ended with ${code}: ${lines.join('\n')}`)));
  });
  return { child, url: `http://127.0.0.1:${port}` };
}

describe('the bundle', () => {
  it('the bundle of the companion runs without an image and without an installation', async () => {
    expect((await readdir(join(outdir, 'companion'))).toSorted()).toEqual(['chunks', 'main.js', 'package.json']);
    const manifest = JSON.parse(await readFile(join(outdir, 'companion/package.json'), 'utf8'));
    expect(manifest).not.toHaveProperty('dependencies');
  });

  it('the bundle serves sockets and health, and on SIGTERM announces its close: a hint, 1012, exit 0', async () => {
    const { child, url } = await start({ GATEWAY_STORE: 'memory', GATEWAY_BUS: 'local', GATEWAY_API_KEY: 'k' });
    expect(await (await fetch(`${url}/health`)).json()).toEqual({ status: 'healthy' });
    expect((await fetch(`${url}/jsonrpc`, { method: 'POST', headers: { 'X-API-Key': 'k' }, body: '{}' })).status).toBe(
      401,
    );
    const client = await connect(`${url.replace('http', 'ws')}/ws`, { headers: { 'X-API-Key': 'k' } });
    expect((await client.call('conversation.prompt', { prompt: 'hello' })).result).toMatchObject({
      type: 'ai_response',
    });
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    const hint = await client.until(({ method }) => method === 'gateway.reconnect');
    expect(hint.params).toMatchObject({ reason: 'shutdown', retry_after_ms: expect.any(Number) });
    expect((await client.closed).code).toBe(1012);
    expect(await exited).toEqual([0, null]);
  }, 60_000);

  it('the bundle describes an answer that does not match its schema, in a worker thread of the bundle', async () => {
    const { child, url } = await start({ GATEWAY_STORE: 'memory', GATEWAY_BUS: 'local', GATEWAY_API_KEY: 'k' });
    const client = await connect(`${url.replace('http', 'ws')}/ws`, { headers: { 'X-API-Key': 'k' } });
    // The model repeats the prompt.
    const output_schema = { type: 'object', properties: { city: { type: 'string' } } };
    const { error } = await client.call('conversation.prompt', { prompt: '{"city":1}', output_schema });
    const issues = [{ path: 'output.city', message: expect.stringMatching(/expected string/) }];
    expect(error).toMatchObject({ data: { reason: 'upstream_error', issues } });
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    expect((await exited)[0]).toBe(0);
  });

  it('the bundle of the companion fetches the certificates of ID tokens through the proxy of its machine', async () => {
    const proxy = createServer().listen(0, '127.0.0.1');
    const connected = once(proxy, 'connect');
    await once(proxy, 'listening');
    const { child } = await start({
      ...{ GATEWAY_STORE: 'memory', GATEWAY_BUS: 'local', GATEWAY_API_KEY: 'k' },
      ...{ COMPANION_AUDIENCE: 'https://companion.example.com', COMPANION_CALLER: 'jsonrpc@example.com' },
      HTTPS_PROXY: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    });
    const [request, socket] = (await connected) as [IncomingMessage, Socket];
    expect(request.url).toBe('www.googleapis.com:443');
    socket.destroy();
    child.kill('SIGKILL');
    await once(child, 'exit');
    proxy.close();
  }, 60_000);

  it('the bundle does not start with an invalid configuration, and prints every mistake', async () => {
    await expect(start({ HOST: '0.0.0.0', GATEWAY_LIMITS: 'many' })).rejects.toThrow(
      /ended with 1: .*configuration is not valid/s,
    );
  }, 60_000);
});
