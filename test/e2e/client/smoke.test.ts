// `npm run smoke` as a process passes against a gateway that works, and names what a broken one does wrong.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, it } from 'vitest';
import { ROOT, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';

const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

async function smoke(...args: readonly string[]): Promise<{ code: unknown; lines: string[]; stderr: string }> {
  const child = spawn(process.execPath, [join(ROOT, 'functions/run.js'), 'smoke', ...args], {
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE },
  });
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  return { code, lines: stdout.trimEnd().split('\n'), stderr };
}

async function serve(handler: RequestListener): Promise<string> {
  const server = createServer(handler).listen(0, '127.0.0.1');
  stops.push(() => server.close());
  await once(server, 'listening');
  const address = server.address();
  return `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
}

describe('npm run smoke', () => {
  it('npm run smoke passes against the gateway of this machine and leaves no session behind', async () => {
    const gateway = await startLocalGateway();
    stops.push(() => gateway.stop());
    const { code, lines } = await smoke(gateway.url);
    expect(lines.map((line) => line.replace(/:.*/, ''))).toEqual([
      'ok      health',
      'ok      wrong key',
      'ok      limits headers',
      'ok      prompt',
      'ok      cancel',
      'ok      webhook',
      'ok      socket',
    ]);
    expect(code).toBe(0);
    const response = await fetch(`${gateway.url}/jsonrpc`, {
      method: 'POST',
      headers: { 'X-API-Key': 'dev-key' },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'conversation.list' }),
    });
    expect(await response.json()).toMatchObject({ result: { conversations: [] } });
  });

  it('npm run smoke fails with the name and the cause of every check that a gateway does not pass', async () => {
    const url = await serve((request, response) => {
      request.resume();
      response.writeHead(request.url === '/health' ? 200 : 404, { 'Content-Type': 'application/json' });
      response.end(request.url === '/health' ? '{"status":"healthy"}' : '{}');
    });
    const { code, lines } = await smoke(url);
    expect(code).toBe(1);
    expect(lines[0]).toMatch(/^ok {6}health: healthy/);
    expect(lines.slice(1).map((line) => line.replace(/: .*/, ''))).toEqual([
      'FAILED  wrong key',
      'FAILED  limits headers',
      'FAILED  prompt',
      'FAILED  cancel',
      'FAILED  webhook',
      'FAILED  socket',
    ]);
    expect(lines[1]).toBe('FAILED  wrong key: a wrong key was answered with HTTP 404');
  });

  it('npm run smoke sends the development key to this machine only, and names the variable of the key for another gateway', async () => {
    const { code, stderr } = await smoke('https://gateway.example.com');
    expect({ code, stderr }).toEqual({ code: 2, stderr: 'smoke: set GATEWAY_KEY to the API key of this gateway\n' });
  });

  it('npm run smoke names a URL that is none', async () => {
    const { code, stderr } = await smoke('gateway');
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: 'smoke: gateway is not a URL, such as https://gateway.example.com\n',
    });
  });

  it('npm run smoke prints how to call it when the URL is missing', async () => {
    expect(await smoke()).toMatchObject({ code: 2, stderr: expect.stringContaining('usage: npm run -s smoke -- ') });
  });
});
