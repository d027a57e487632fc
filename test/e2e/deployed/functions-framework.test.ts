// framework.ts gives every handler under the stock CLI the same guarantees, shown with a stub: the handler alone reads
// the body, refusals are JSON, memory does not grow, and a SIGTERM lets requests finish.
import { once } from 'node:events';
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { ROOT, type RunningFunction, startFunction } from '../../support/fixtures/gateway/functions-cli.ts';

const running: RunningFunction[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((fn) => fn.stop('SIGKILL')));
});

async function start(env: Record<string, string> = {}): Promise<RunningFunction> {
  const fn = await startFunction({
    source: path.join(ROOT, 'test/support/fixtures/gateway/functions-stub.ts'),
    target: 'stub',
    env,
  });
  running.push(fn);
  return fn;
}

/** Sends raw bytes and resolves with everything that comes back until the server closes. */
async function exchange(port: number, bytes: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  socket.setEncoding('utf8');
  let answer = '';
  socket.on('data', (text: string) => {
    answer += text;
  });
  socket.write(bytes);
  await once(socket, 'close');
  return answer;
}

/** A figure that the stub returns about itself. */
async function readFigure(fn: RunningFunction, figure: 'rss' | 'holding'): Promise<number> {
  const answer: unknown = await (await fetch(`${fn.url}/${figure}`)).json();
  if (typeof answer !== 'object' || answer === null || !(figure in answer)) throw new Error('no figure');
  return Number(Reflect.get(answer, figure));
}

describe('bodies', () => {
  it('bodies of up to 1 MiB and of any type reach the handler completely', async () => {
    const { url } = await start();
    for (const type of [
      'application/json',
      'text/plain',
      'application/x-www-form-urlencoded',
      'application/octet-stream',
    ]) {
      const response = await fetch(url, {
        method: 'POST',
        body: Buffer.alloc(1 << 20, '{'),
        headers: { 'x-api-key': 'k', 'content-type': type },
      });
      expect(await response.json()).toEqual({ bytes: 1 << 20 });
    }
  });

  it('bodies of 1 MiB + 1 bytes are refused with 413, compressed ones with 415 without being inflated', async () => {
    const { url } = await start();
    const headers = { 'x-api-key': 'k', 'content-type': 'application/json' };
    const big = await fetch(url, { method: 'POST', body: Buffer.alloc((1 << 20) + 1, ' '), headers });
    expect(big.status).toBe(413);
    expect(await big.json()).toMatchObject({ error: { code: 413, data: { reason: 'payload_too_large' } } });

    const bomb = gzipSync(Buffer.alloc(200 << 20, ' '));
    const zipped = await fetch(url, {
      method: 'POST',
      body: bomb,
      headers: { ...headers, 'content-encoding': 'gzip' },
    });
    expect(zipped.status).toBe(415);
    expect(await zipped.json()).toMatchObject({ error: { code: 415 } });
  });

  it('bodies without a key are not read: 60 MiB cost no memory', async () => {
    const fn = await start();
    const before = await readFigure(fn, 'rss');
    const send = async (): Promise<void> => {
      const req = httpRequest(fn.url, { method: 'POST', headers: { 'content-type': 'application/json' } });
      req.on('error', () => {});
      const answered = once(req, 'response') as Promise<[IncomingMessage]>;
      for (let written = 0; written < 60; written++) if (!req.write(Buffer.alloc(1 << 20))) break;
      const [response] = await answered;
      expect(response.statusCode).toBe(401);
      req.destroy();
    };
    await Promise.all(Array.from({ length: 10 }, send));
    expect((await readFigure(fn, 'rss')) - before).toBeLessThan(64 << 20);
  });

  it('bodies announced with Expect: 100-continue are requested only after authentication', async () => {
    const { port } = await start();
    const head = (extra: string): string =>
      `POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\nExpect: 100-continue\r\n${extra}\r\n`;
    const refused = await exchange(port, head(''));
    expect(refused).toMatch(/^HTTP\/1\.1 401 /);
    const admitted = await exchange(port, `${head('X-API-Key: k\r\n')}{}`);
    expect(admitted).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK/);
  });
});

describe('what goes wrong', () => {
  it('an error in a handler is a masked JSON 500, never a stack, and the process continues', async () => {
    const fn = await start();
    const response = await fetch(`${fn.url}/throw`);
    expect(response.status).toBe(500);
    expect(response.headers.get('content-type')).toMatch(/^application\/json/);
    const text = await response.text();
    expect(JSON.parse(text)).toMatchObject({
      jsonrpc: '2.0',
      id: null,
      error: { code: -32603, data: { reason: 'internal' } },
    });
    expect(text).not.toContain('secret detail');
    expect((await fetch(`${fn.url}/rss`)).status).toBe(200);
  });

  it('an error in a promise that is not awaited is logged and ends no request in flight', async () => {
    const fn = await start();
    await fetch(`${fn.url}/reject`);
    expect(await readFigure(fn, 'rss')).toBeGreaterThan(0);
    expect(await fn.stop()).toEqual({ code: 0, signal: null });
    expect(fn.output()).toContain('a rejection was not handled');
  });

  it.each([
    ['no HTTP at all', 'hello\r\n\r\n', 400],
    ['headers beyond 16 KiB', `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, 431],
    [
      'two lengths',
      'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
      400,
    ],
  ])('an error in the request line or headers is JSON too: %s', async (_name, bytes, status) => {
    const { port } = await start();
    const [head = '', body = ''] = (await exchange(port, bytes)).split('\r\n\r\n');
    expect(head).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(JSON.parse(body)).toMatchObject({ jsonrpc: '2.0', id: null, error: { code: -32600 } });
  });
});

describe.each(['SIGTERM', 'SIGINT'] as const)('%s', (signal) => {
  it('a function that is stopped answers the requests in flight, closes idle connections, accepts no more, exits 0', async () => {
    const fn = await start();
    const agent = new Agent({ keepAlive: true });
    await once(httpRequest(`${fn.url}/rss`, { agent }).end(), 'response');
    const held = Array.from({ length: 20 }, () => fetch(`${fn.url}/hold`));
    await expect.poll(() => readFigure(fn, 'holding')).toBe(20);

    const stopped = fn.stop(signal);
    await expect.poll(() => refuses(fn.port)).toBe(true);
    fn.child.kill('SIGUSR2');
    const answers = await Promise.all(held);
    expect(answers.map((answer) => answer.status)).toEqual(Array.from({ length: 20 }, () => 200));
    expect(await stopped).toEqual({ code: 0, signal: null });
    expect(fn.output()).toContain('"drained"');
    expect(fn.output()).toMatch(/finish was called","grace_ms":\d/);
    expect(fn.output()).toMatch(/close was called","holding":0/);
    agent.destroy();
  });

  it('a function that is stopped gives up after its deadline and still exits 0', async () => {
    const fn = await start({ DRAIN_MS: '200' });
    const held = fetch(`${fn.url}/hold`).catch((error: unknown) => error);
    await expect.poll(() => readFigure(fn, 'holding')).toBe(1);
    expect(await fn.stop(signal)).toEqual({ code: 0, signal: null });
    expect(await held).toBeInstanceOf(Error);
    expect(fn.output()).toContain('gave up');
  });
});

async function refuses(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return false;
  } catch {
    return true;
  } finally {
    socket.destroy();
  }
}
