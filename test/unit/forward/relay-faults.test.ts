// The jsonrpc function answers every call although the companion is of an older version, out of reach, replaced by the
// platform's own pages, or ends within its answer. The companion is a server of the test's own that sends these bytes.
import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, request, type ServerResponse } from 'node:http';
import { afterEach, describe, expect, it } from 'vitest';
import { createJsonRpcHandler } from '../../../functions/jsonrpc/handler.ts';
import { createHttpServer } from '../../../functions/server/node-server.ts';
import { createRelay, type RelayOptions } from '../../../functions/server/relay.ts';
import { loadConfig } from '../../../shared/config/load-config.ts';
import { createServices } from '../../../shared/create-services.ts';
import { openCompanionService } from '../../../shared/forward/companion-service.ts';
import { createOpenExchange, encodeReport, REPORT_HEADER } from '../../../shared/forward/exchange.ts';
import { forwardToCompanion } from '../../../shared/forward/forward.ts';
import { createHttpCompanion } from '../../../shared/forward/http-companion.ts';
import { createGateway } from '../../../shared/gateway.ts';
import { createLogger } from '../../../shared/log.ts';
import type { MethodContext } from '../../../shared/methods/define-method.ts';
import * as methods from '../../../shared/methods/index.ts';
import { createRegistry } from '../../../shared/rpc/method.ts';
import { listen } from '../../support/fixtures/gateway/forward.ts';

const REPORT = { [REPORT_HEADER]: encodeReport(0, undefined) };
const STREAM = { 'Content-Type': 'text/event-stream; charset=utf-8', ...REPORT };
const EVENT = 'id: t:1\ndata: {"jsonrpc":"2.0","method":"conversation.event","params":{}}\n\n';
const BODY = JSON.stringify({ jsonrpc: '2.0', method: 'conversation.prompt', params: { prompt: 'hi' }, id: 'my-id' });
const COMMENT = ': keep-alive\n\n';

const closing: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function startFront(companion: RequestListener, options: RelayOptions = {}) {
  const remote = await listen(createServer(companion));
  closing.push(remote.close);
  const logged: string[] = [];
  const config = loadConfig({ GATEWAY_STORE: 'memory', GATEWAY_LIMITS: '10/day' });
  const log = createLogger({ format: 'json', write: (text) => logged.push(text) });
  const given = await createServices(config, { log });
  const access = { service: openCompanionService(remote.url), authorization: async () => 'Bearer token' };
  const { relay, services } = createRelay(given, createOpenExchange(access), options);
  const registry = createRegistry<MethodContext>(Object.values(methods));
  const gateway = createGateway(services, forwardToCompanion(registry, createHttpCompanion(access), 'companion'));
  const handler = createJsonRpcHandler(services, gateway, relay);
  const arrived: ((res: ServerResponse) => void)[] = [];
  const server = createHttpServer((req, res) => {
    for (const resolve of arrived.splice(0)) resolve(res);
    return handler(req, res);
  });
  const front = await listen(server);
  closing.push(front.close, () => services.close());
  const prompt = (headers: Readonly<Record<string, string>> = {}, signal: AbortSignal | null = null) =>
    fetch(`${front.url}/jsonrpc`, {
      method: 'POST',
      headers: { 'X-API-Key': 'dev-key', 'X-Request-Id': 'mine', ...headers },
      body: BODY,
      signal,
    });
  return {
    url: front.url,
    prompt,
    /** The response to the next request. */
    next: () => new Promise<ServerResponse>((resolve) => arrived.push(resolve)),
    stream: (signal?: AbortSignal) => prompt({ Accept: 'text/event-stream' }, signal),
    logged() {
      log.flush();
      return logged.join('');
    },
  };
}

const UNAVAILABLE = {
  jsonrpc: '2.0',
  id: 'my-id',
  error: { code: 503, data: { reason: 'unavailable', request_id: 'mine', retryable: true, retry_after_ms: 1_000 } },
};

describe('a companion without whole requests', () => {
  it('an older companion receives each call separately, counted by the function', async () => {
    const paths: string[] = [];
    const front = await startFront((req, res) => {
      paths.push(req.url ?? '');
      req.resume();
      if (req.url !== '/jsonrpc') res.writeHead(404, { 'Content-Type': 'application/json' }).end('{}');
      else
        res
          .writeHead(200, { 'Content-Type': 'application/x-ndjson' })
          .end(
            `${JSON.stringify({ jsonrpc: '2.0', id: 1, error: { message: 'busy', data: { reason: 'session_busy' } } })}\n`,
          );
    });
    const answer = await front.prompt();
    expect(await answer.json()).toMatchObject({ id: 'my-id', error: { code: 409, message: 'busy' } });
    expect(answer.headers.get('x-ratelimit-remaining')).toBe('9');
    const streamed = await front.stream();
    expect(await streamed.text()).toContain('"message":"busy"');
    expect(streamed.headers.get('x-ratelimit-remaining')).toBe('8');
    expect(paths).toEqual(['/exchange', '/jsonrpc', '/exchange', '/jsonrpc']);
  });
});

describe('a companion that does not answer', () => {
  it.each<readonly [string, number]>([
    ['its refusal of the function’s own token', 401],
    ['the platform’s page for no instance', 429],
    ['the platform’s page for a crash', 500],
    ['the platform’s page for no service', 503],
    ['a success without a report', 200],
  ])(
    'a companion that does not answer is 503 for the caller, under the id of the call, and is logged: %s',
    async (_name, status) => {
      const front = await startFront((req, res) => {
        req.resume();
        res
          .writeHead(status, { 'Content-Type': 'text/html', 'Retry-After': '99', 'X-RateLimit-Limit': '1' })
          .end('<p>');
      });
      for (const answer of [await front.prompt(), await front.stream()]) {
        expect(answer.status).toBe(503);
        expect(answer.headers.get('retry-after')).toBe('1');
        expect(answer.headers.get('x-ratelimit-limit')).toBeNull();
        expect(answer.headers.get('x-request-id')).toBe('mine');
        expect(await answer.json()).toMatchObject(UNAVAILABLE);
      }
      expect(front.logged()).toContain(`the companion answered ${status}`);
      expect(front.logged()).toMatch(/"method":"conversation.prompt","outcome":"unavailable"/);
    },
  );

  it('a companion that does not answer is 503 where the connection breaks before the answer', async () => {
    const front = await startFront((req) => req.socket.destroy());
    expect(await (await front.prompt()).json()).toMatchObject(UNAVAILABLE);
  });
});

describe('a companion that is silent', () => {
  it('a companion that is silent is 503 where the headers of a stream do not arrive in time', async () => {
    const front = await startFront((req) => req.resume(), { silentMsMax: 50 });
    const answer = await front.stream();
    expect([answer.status, await answer.json()]).toMatchObject([503, UNAVAILABLE]);
    expect(front.logged()).toContain('the companion sent nothing for too long');
  });

  it('a companion that is silent ends a stream with the error as its last event where no data follows', async () => {
    const listener: RequestListener = (req, res) => {
      req.resume();
      res.writeHead(200, STREAM).write(EVENT);
    };
    const front = await startFront(listener, { silentMsMax: 500 });
    const text = await (await front.stream()).text();
    expect(JSON.parse(text.slice(EVENT.length).replace(/^data: /, ''))).toMatchObject(UNAVAILABLE);
    expect(front.logged()).toContain('the companion sent nothing for too long');
  });
});

describe('a companion that ends within its answer', () => {
  const cut =
    (bytes: string, headers: object = STREAM): RequestListener =>
    (req, res) => {
      req.resume();
      res.writeHead(200, { ...headers });
      res.write(bytes, () => res.destroy());
    };

  it.each(['', EVENT])('a stream ends with the error as its last event, after %j', async (bytes) => {
    const front = await startFront(cut(bytes));
    const text = await (await front.stream()).text();
    expect(text.startsWith(bytes)).toBe(true);
    expect(JSON.parse(text.slice(bytes.length).replace(/^data: /, ''))).toMatchObject(UNAVAILABLE);
    expect(front.logged()).toContain('"outcome":"unavailable"');
  });

  it.each([EVENT.slice(0, -1), EVENT.slice(0, -2), EVENT.slice(0, 20)])(
    'a stream that is cut within an event is cut for the caller, who resumes it: %j',
    async (bytes) => {
      const front = await startFront(cut(bytes));
      const stream = await front.stream();
      await expect(stream.text()).rejects.toThrow();
    },
  );

  it('an answer in JSON is cut for the caller', async () => {
    const front = await startFront(
      cut('{"jsonrpc"', { 'Content-Type': 'application/json', 'Content-Length': 50, ...REPORT }),
    );
    await expect(front.prompt().then((answer) => answer.text())).rejects.toThrow();
  });
});

describe('a relayed stream', () => {
  it('a relayed stream is passed on byte for byte, pieces that end anywhere included', async () => {
    const text = `${EVENT}: keep-alive\n\n${EVENT}data: {"id":1}\n\n`;
    const front = await startFront(async (req, res) => {
      req.resume();
      res.writeHead(200, STREAM);
      for (let at = 0; at < text.length; at += 7) {
        await new Promise<void>((resolve) => res.write(text.slice(at, at + 7), () => resolve()));
      }
      res.end();
    });
    const answer = await front.stream();
    expect(answer.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    expect(await answer.text()).toBe(text);
  });

  it('a relayed stream of a slow reader holds back the companion: the function buffers no more than a few pieces', async () => {
    const piece = `: ${'x'.repeat(65_532)}\n\n`;
    const front = await startFront((req, res) => {
      req.resume();
      res.writeHead(200, STREAM);
      // Everything at once: it waits in the companion.
      for (let n = 0; n < 500; n++) res.write(piece);
      res.end();
    });
    const response = front.next();
    const answer = await front.stream();
    const res = await response;
    let [bytes, bufferedMax] = [0, 0];
    for await (const chunk of answer.body ?? []) {
      bytes += chunk.length;
      bufferedMax = Math.max(bufferedMax, res.writableLength);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(bytes).toBe(500 * piece.length);
    expect(bufferedMax).toBeLessThan(512 << 10);
  });

  it.each([
    ['between events', EVENT.length],
    ['within an event', 20],
  ])('a relayed stream is complete for a half-closed client, with comments only between events: %s', async (_, cut) => {
    const gate = Promise.withResolvers<void>();
    const front = await startFront(async (req, res) => {
      req.resume();
      res.writeHead(200, STREAM).write(EVENT.slice(0, cut));
      await gate.promise;
      res.end(`${EVENT.slice(cut)}${EVENT}`);
    });
    const arrived = front.next();
    const headers = { 'X-API-Key': 'dev-key', Accept: 'text/event-stream' };
    const outgoing = request(`${front.url}/jsonrpc`, { method: 'POST', headers });
    outgoing.end(BODY);
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
    let text = '';
    const comment = Promise.withResolvers<void>();
    response.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      if (text.includes(COMMENT)) comment.resolve();
    });
    await once(response, 'data');
    const closed = once((await arrived).req.socket, 'end');
    outgoing.socket?.end();
    await (cut === EVENT.length ? comment.promise : closed);
    const ended = once(response, 'end');
    gate.resolve();
    await ended;
    expect(text.replaceAll(COMMENT, '')).toBe(`${EVENT}${EVENT}`);
    expect(text.split('\n\n').filter((part) => part.includes(': keep-alive') && part !== ': keep-alive')).toEqual([]);
  });

  it.each<readonly [string, RelayOptions]>([
    ['a number of them', { leftMax: 2 }],
    ['the bytes of their bodies', { leftBytesMax: 2.5 * BODY.length }],
  ])('a relayed stream stays open without its client, up to %s, the oldest first', async (_, options) => {
    const open: ServerResponse[] = [];
    let arrived = Promise.withResolvers<void>();
    const front = await startFront((req, res) => {
      req.resume();
      res.writeHead(200, STREAM);
      res.write(EVENT);
      open.push(res);
      arrived.resolve();
    }, options);
    const leave = async (): Promise<void> => {
      arrived = Promise.withResolvers();
      const client = new AbortController();
      const response = front.next();
      await front.stream(client.signal);
      await arrived.promise;
      // The function notices a reset at once, and the end of a connection only by its writes.
      const left = once(await response, 'close');
      client.abort();
      await left;
    };
    await leave();
    await leave();
    const [first] = open;
    const closed = once(first as ServerResponse, 'close');
    await leave();
    await closed;
    expect(open.map(({ destroyed }) => destroyed)).toEqual([true, false, false]);
  });
});
