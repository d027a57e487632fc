// bff.proxy forwards a request to real HTTP servers and returns the response, within bounds, and dials only what the
// operator has configured. Called through the local gateway's own HTTP endpoint.
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createJsonRpcHandler } from '../../functions/jsonrpc/handler.ts';
import { createGateway } from '../../shared/gateway.ts';
import { createBffProxy } from '../../shared/methods/bff.proxy.ts';
import { createRegistry } from '../../shared/rpc/method.ts';
import { connect } from '../support/fixtures/gateway/companion.ts';
import { type InProcessGateway, startInProcess } from '../support/fixtures/gateway/in-process.ts';

const KEY = 'key-of-the-proxy-test';
const BODY_BYTES_MAX = 5 << 20;

interface Backend {
  readonly url: string;
  readonly server: Server;
  connections: number;
  readonly seen: {
    readonly method: string;
    readonly url: string;
    readonly headers: IncomingMessage['headers'];
    readonly body: string;
  }[];
  answer: (response: ServerResponse, request: IncomingMessage) => void;
}

let backend: Backend;
let other: Backend;
let gateway: InProcessGateway;

beforeAll(async () => {
  [backend, other] = await Promise.all([startBackend(), startBackend()]);
  gateway = await startInProcess({
    GATEWAY_KEYS: JSON.stringify({
      keys: [
        { id: 'all', key: KEY },
        { id: 'none', key: 'key-without-proxy', scopes: ['conversation'] },
      ],
    }),
    GATEWAY_LIMITS: '1000000/minute',
    BFF_BASE_URL: `${backend.url}/base/`,
    BFF_BACKENDS: JSON.stringify({
      public: { base_url: other.url },
      gone: { base_url: 'http://127.0.0.1:9', internal: true },
    }),
  });
});
afterAll(async () => {
  await gateway.close();
  for (const { server } of [backend, other]) {
    server.closeAllConnections();
    server.close();
  }
});
beforeEach(() => {
  for (const one of [backend, other]) {
    one.answer = (response) => json(response, { ok: true });
    one.seen.length = 0;
    one.connections = 0;
  }
});

async function startBackend(): Promise<Backend> {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const { method = '', url = '', headers } = request;
    own.seen.push({ method, url, headers, body: Buffer.concat(chunks).toString() });
    own.answer(response, request);
  });
  server.on('connection', () => own.connections++);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const own: Backend = { url, server, connections: 0, seen: [], answer: (response) => response.end() };
  return own;
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json; charset=utf-8' }).end(JSON.stringify(value));
}

interface Answer {
  readonly status: number;
  readonly result?: {
    readonly status: number;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: unknown;
    readonly body_encoding: string;
  };
  readonly error?: {
    readonly code: number;
    readonly message: string;
    readonly data: Readonly<Record<string, unknown>>;
  };
}

async function proxy(params: object, key = KEY, at: { readonly url: string } = gateway): Promise<Answer> {
  const response = await fetch(`${at.url}/jsonrpc`, {
    method: 'POST',
    headers: { 'x-api-key': key, 'content-type': 'application/json', cookie: 'gateway=1', 'x-mine': 'not sent on' },
    body: JSON.stringify({ jsonrpc: '2.0', method: 'bff.proxy', params, id: 8 }),
  });
  return { ...((await response.json()) as Omit<Answer, 'status'>), status: response.status };
}

describe('a request', () => {
  it('the documented request arrives below the base URL with its query and headers, and its response is returned', async () => {
    backend.answer = (response) => json(response, [{ id: 1, name: 'Ada' }]);
    const { status, result } = await proxy({
      endpoint: '/api/users',
      method: 'GET',
      headers: { Authorization: 'Bearer user-token' },
      query: { page: 1, limit: 10 },
    });
    expect(status).toBe(200);
    expect(result).toMatchObject({
      status: 200,
      headers: { 'content-type': 'application/json; charset=utf-8' },
      body: [{ id: 1, name: 'Ada' }],
      body_encoding: 'json',
    });
    expect(backend.seen).toMatchObject([
      { method: 'GET', url: '/base/api/users?page=1&limit=10', headers: { authorization: 'Bearer user-token' } },
    ]);
  });

  it('a request carries nothing of the gateway: not its key, not the caller’s cookies, not the caller’s other headers', async () => {
    await proxy({
      endpoint: '/x',
      headers: {
        'X-API-Key': KEY,
        Cookie: 'session=1',
        'Metadata-Flavor': 'Google',
        Connection: 'close, X-Hop',
        'X-Hop': '1',
        Host: 'evil.example',
        'X-Forwarded-For': '10.0.0.1',
        'Content-Length': '999',
        'Transfer-Encoding': 'chunked',
        'X-Kept': 'yes',
      },
    });
    const headers = backend.seen[0]?.headers ?? {};
    expect(headers).toMatchObject({ 'x-kept': 'yes', host: new URL(backend.url).host });
    for (const name of [
      'x-api-key',
      'cookie',
      'metadata-flavor',
      'x-hop',
      'x-forwarded-for',
      'content-length',
      'transfer-encoding',
      'x-mine',
    ])
      expect(headers).not.toHaveProperty([name]);
    expect(JSON.stringify(headers)).not.toContain(KEY);
  });

  it.each([
    ['an object, as JSON', { a: ['ü', 1] }, '{"a":["ü",1]}', 'application/json'],
    ['a number', 0, '0', 'application/json'],
    ['null', null, 'null', 'application/json'],
    ['a string, as it is', 'a=1&b=2', 'a=1&b=2', 'text/plain;charset=UTF-8'],
  ])('a request has a body that is %s', async (_name, body, arrived, type) => {
    const { result } = await proxy({ endpoint: '/x', method: 'POST', body });
    expect(result?.status).toBe(200);
    expect(backend.seen).toMatchObject([{ method: 'POST', body: arrived, headers: { 'content-type': type } }]);
  });

  it('a request keeps the content type that the caller names', async () => {
    await proxy({ endpoint: '/x', method: 'PUT', body: { a: 1 }, headers: { 'content-type': 'application/ld+json' } });
    expect(backend.seen).toMatchObject([{ method: 'PUT', headers: { 'content-type': 'application/ld+json' } }]);
  });

  it('the query of a request is added to the endpoint’s own, encoded, lists as repeated names', async () => {
    await proxy({ endpoint: '/x?a=1', query: { b: ['x y', true], 'c&d': 'e=f' } });
    expect(backend.seen[0]?.url).toBe('/base/x?a=1&b=x+y&b=true&c%26d=e%3Df');
  });

  it.each(['GET', 'HEAD'])('a %s request with a body is refused as the caller’s mistake', async (method) => {
    const { error } = await proxy({ endpoint: '/x', method, body: { a: 1 } });
    expect(error).toMatchObject({ code: -32602, data: { issues: [{ path: 'body' }] } });
    expect(backend.connections).toBe(0);
  });
});

describe('an answer', () => {
  it.each([404, 500, 204, 304, 401])('an answer with status %d is a result, not an error', async (status) => {
    backend.answer = (response) => response.writeHead(status).end();
    const { status: http, result } = await proxy({ endpoint: '/x' });
    expect(http).toBe(200);
    expect(result).toMatchObject({ status, body: '', body_encoding: 'text' });
  });

  it('a response keeps its headers, except those that set cookies or describe the connection', async () => {
    backend.answer = (response) =>
      response
        .writeHead(200, {
          'set-cookie': ['a=1', 'b=2'],
          'x-request-id': 'r1',
          'cache-control': 'no-store',
          'keep-alive': 'timeout=5',
          'proxy-authenticate': 'Basic',
          connection: 'close, X-Hop',
          'x-hop': '1',
        })
        .end('x');
    const headers = (await proxy({ endpoint: '/x' })).result?.headers ?? {};
    expect(headers).toMatchObject({ 'x-request-id': 'r1', 'cache-control': 'no-store' });
    for (const name of [
      'set-cookie',
      'keep-alive',
      'connection',
      'transfer-encoding',
      'content-length',
      'proxy-authenticate',
      'x-hop',
    ])
      expect(headers).not.toHaveProperty([name]);
  });

  it.each([
    ['text', 'text/html', Buffer.from('<p>ü</p>'), '<p>ü</p>', 'text'],
    ['JSON of another name', 'application/problem+json', Buffer.from('{"a":1}'), { a: 1 }, 'json'],
    ['what is not the JSON it says', 'application/json', Buffer.from('{"a":'), '{"a":', 'text'],
    [
      'binary',
      'image/png',
      Buffer.from([0x89, 0x50, 0xff, 0]),
      Buffer.from([0x89, 0x50, 0xff, 0]).toString('base64'),
      'base64',
    ],
    ['nothing', 'application/json', Buffer.alloc(0), '', 'text'],
  ])('an answer that is %s is returned as such', async (_name, type, bytes, body, body_encoding) => {
    backend.answer = (response) => response.writeHead(200, { 'content-type': type }).end(bytes);
    expect((await proxy({ endpoint: '/x' })).result).toMatchObject({ body, body_encoding });
  });

  it('an answer to HEAD has headers and no body', async () => {
    backend.answer = (response) => response.writeHead(200, { 'content-type': 'application/json', etag: '"1"' }).end();
    const { result } = await proxy({ endpoint: '/x', method: 'HEAD' });
    expect(result).toMatchObject({ status: 200, headers: { etag: '"1"' }, body: '' });
    expect(backend.seen).toMatchObject([{ method: 'HEAD' }]);
  });

  it('an answer of 5 MiB is passed on, of one byte more refused, without Content-Length too', async () => {
    backend.answer = (response) => response.end(Buffer.alloc(BODY_BYTES_MAX, 'a'));
    expect(String((await proxy({ endpoint: '/x' })).result?.body)).toHaveLength(BODY_BYTES_MAX);
    backend.answer = (response) => {
      response.write(Buffer.alloc(BODY_BYTES_MAX, 'a'));
      response.end('a');
    };
    expect((await proxy({ endpoint: '/x' })).error).toMatchObject({
      code: 502,
      data: { reason: 'upstream_error', retryable: false },
    });
  });

  it('an endless response is cut at 5 MiB, and the connection to the backend is closed', async () => {
    const closed = new Promise<void>((resolve) => {
      backend.answer = (response) => {
        const more = (): void => {
          while (response.write(Buffer.alloc(1 << 16))) {}
        };
        response.on('drain', more).on('close', resolve);
        more();
      };
    });
    expect((await proxy({ endpoint: '/x' })).error).toMatchObject({ code: 502 });
    await closed;
  });

  it('an answer that grows beyond 5 MiB when unpacked is refused', async () => {
    backend.answer = (response) =>
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(Buffer.alloc(50 << 20)));
    expect((await proxy({ endpoint: '/x' })).error).toMatchObject({ code: 502 });
  });

  it('a compressed response is returned decompressed, without its Content-Encoding', async () => {
    backend.answer = (response) =>
      response.writeHead(200, { 'content-encoding': 'gzip', 'content-type': 'text/plain' }).end(gzipSync('plain'));
    const { result } = await proxy({ endpoint: '/x' });
    expect(result?.body).toBe('plain');
    expect(result?.headers).not.toHaveProperty(['content-encoding']);
  });

  it.each([
    ['cuts its headers', (response: ServerResponse) => response.socket?.resetAndDestroy()],
    [
      'cuts its body',
      (response: ServerResponse) => {
        response.writeHead(200, { 'content-length': '10' });
        response.write('half', () => response.socket?.resetAndDestroy());
      },
    ],
  ])('an answer of a backend that %s is upstream_error', async (_name, answer) => {
    backend.answer = answer;
    expect((await proxy({ endpoint: '/x' })).error).toMatchObject({ code: 502, data: { reason: 'upstream_error' } });
  });

  it('an answer of a backend that is not there is upstream_error', async () => {
    expect((await proxy({ endpoint: '/x', backend: 'gone' })).error).toMatchObject({ code: 502 });
  });
});

describe('a backend that is slow', () => {
  it.each([
    ['never sends headers', { headersTimeoutMs: 100 }, () => {}],
    [
      'never ends its body',
      { totalTimeoutMs: 300 },
      (response: ServerResponse) => void response.writeHead(200, { 'content-length': '10' }).write('half'),
    ],
  ])(
    'a backend that %s is upstream_timeout at the deadline, and sees its connection closed',
    async (_name, deadlines, answer) => {
      const { services } = gateway;
      const registry = createRegistry([createBffProxy(deadlines)]);
      const server = createServer(createJsonRpcHandler(services, createGateway(services, registry)));
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      backend.answer = answer;
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      const { status, error } = await proxy({ endpoint: '/x' }, KEY, { url });
      expect({ status, error }).toMatchObject({
        status: 200,
        error: { code: 504, data: { reason: 'upstream_timeout', retryable: true } },
      });
      const connections = (): Promise<number> =>
        new Promise((resolve) => backend.server.getConnections((_, count) => resolve(count)));
      await expect.poll(connections).toBe(0);
      server.closeAllConnections();
      server.close();
    },
  );
});

describe('a redirect', () => {
  it('a redirect within the backend is followed', async () => {
    backend.answer = (response, request) =>
      request.url === '/base/x' ? response.writeHead(302, { location: '/base/y' }).end() : json(response, 'there');
    expect((await proxy({ endpoint: '/x', headers: { Authorization: 'Bearer t' } })).result).toMatchObject({
      status: 200,
      body: 'there',
    });
    expect(backend.seen).toMatchObject([{}, { url: '/base/y', headers: { authorization: 'Bearer t' } }]);
  });

  it.each([
    ['another service inside', () => `${other.url}/admin`],
    ['the same address by another name', () => `${backend.url.replace('127.0.0.1', 'localhost')}/admin`],
    ['the metadata server', () => 'http://169.254.169.254/computeMetadata/v1/'],
    ['a file', () => 'file:///etc/passwd'],
    ['a place beside its base path', () => '/secret'],
    ['a place that only looks like its base path', () => '/basement'],
    ['a place above its base path', () => '/base/../secret'],
    ['a disguised place above its base path', () => '/base/%252e%252e/secret'],
  ])('a redirect to %s is refused, and nothing is dialled', async (_name, location) => {
    backend.answer = (response) => response.writeHead(307, { location: location() }).end();
    expect((await proxy({ endpoint: '/x' })).error).toMatchObject({ code: 403, data: { reason: 'forbidden' } });
    expect(backend.seen).toHaveLength(1);
    expect(other.connections).toBe(0);
  });
});

describe('numbers and nesting', () => {
  it.each([
    ['an integer beyond 2^53', '{"id":9007199254740993}'],
    ['more digits than a double has', '{"rate":1.0000000000000000001}'],
    ['what would become infinite', '[1e400]'],
    ['nesting of 5,000 levels', `${'['.repeat(5_000)}${']'.repeat(5_000)}`],
  ])('an answer that has %s arrives as text', async (_name, text) => {
    backend.answer = (response) => response.writeHead(200, { 'content-type': 'application/json' }).end(text);
    expect((await proxy({ endpoint: '/x' })).result).toMatchObject({ status: 200, body: text, body_encoding: 'text' });
  });

  it('numbers and nesting that JavaScript can carry arrive as JSON', async () => {
    const text = `{"a":9007199254740991,"b":0.1,"c":1e300,"d":-0.0,"e":${'['.repeat(63)}${']'.repeat(63)}}`;
    backend.answer = (response) => response.writeHead(200, { 'content-type': 'application/json' }).end(text);
    expect((await proxy({ endpoint: '/x' })).result).toMatchObject({
      body: { a: 9007199254740991 },
      body_encoding: 'json',
    });
  });

  it('an answer that takes more memory than its text is passed on as text', async () => {
    const text = `[${'{},'.repeat(700_000)}{}]`;
    backend.answer = (response) => response.writeHead(200, { 'content-type': 'application/json' }).end(text);
    const { result } = await proxy({ endpoint: '/x' });
    expect({ encoding: result?.body_encoding, isWhole: result?.body === text }).toEqual({
      encoding: 'text',
      isWhole: true,
    });
  });

  it('answers of backends use a bounded part of the memory: calls beyond it are refused until some is free again', async () => {
    const open: ServerResponse[] = [];
    backend.answer = (response) => {
      open.push(response.writeHead(200, { 'content-type': 'text/plain' }));
      response.write(Buffer.alloc(4 << 20, 97));
    };
    // One owner gets at most 128 MiB.
    const refused = Promise.withResolvers<void>();
    const calls = Array.from({ length: 40 }, async (_, index) => {
      const { error } = await proxy({ endpoint: '/x', method: index % 2 === 0 ? 'GET' : 'POST' });
      if (error === undefined) return 'ok';
      if (open.length > 0) refused.resolve();
      expect(error.data).toMatchObject(
        index % 2 === 0
          ? { reason: 'unavailable', retryable: true }
          : { reason: 'payload_too_large', retryable: false, carried_out: true },
      );
      return 'refused';
    });
    await refused.promise;
    for (const response of open) response.end();
    backend.answer = (response) => response.end(Buffer.alloc(4 << 20, 97));
    const outcomes = await Promise.all(calls);
    expect(outcomes.filter((outcome) => outcome === 'ok').length).toBeGreaterThan(10);
    expect((await proxy({ endpoint: '/x' })).result).toMatchObject({ status: 200, body_encoding: 'text' });
  });

  it('a deep answer ends every call of a batch, a stream and a socket', async () => {
    const deep = `${'{"a":'.repeat(5_000)}1${'}'.repeat(5_000)}`;
    backend.answer = (response) => response.writeHead(200, { 'content-type': 'application/json' }).end(deep);
    const call = (id: number) => ({ jsonrpc: '2.0', method: 'bff.proxy', params: { endpoint: '/x' }, id });
    const post = (body: unknown, accept: string) =>
      fetch(`${gateway.url}/jsonrpc`, {
        method: 'POST',
        headers: { 'x-api-key': KEY, 'content-type': 'application/json', accept },
        body: JSON.stringify(body),
      });
    const batch = await post([call(1), call(2)], 'application/json');
    expect(await batch.json()).toMatchObject([1, 2].map((id) => ({ id, result: { body: deep } })));
    const stream = await (await post(call(3), 'text/event-stream')).text();
    expect(stream).toContain('"body_encoding":"text"');
    const client = await connect(`${gateway.url.replace('http', 'ws')}/ws`, { headers: { 'X-API-Key': KEY } });
    expect((await client.call('bff.proxy', { endpoint: '/x' })).result).toMatchObject({ body: deep });
    client.socket.close();
  });

  it.each(['{"id":9007199254740993}', '[1.0000000000000000001]', '{"a":{"b":[1e400]}}', '-9007199254740994'])(
    'a body whose numbers would be rounded on the way is refused: %s',
    async (body) => {
      const send = async (text: string): Promise<Answer> => {
        const response = await fetch(`${gateway.url}/jsonrpc`, {
          method: 'POST',
          headers: { 'x-api-key': KEY, 'content-type': 'application/json' },
          body: text,
        });
        return { ...((await response.json()) as Omit<Answer, 'status'>), status: response.status };
      };
      const wrap = (given: string): string =>
        `{"jsonrpc":"2.0","method":"bff.proxy","id":8,"params":{"endpoint":"/x","method":"POST","body":${given}}}`;
      expect(await send(wrap(body))).toMatchObject({
        status: 200,
        error: { code: -32602, data: { issues: [{ path: expect.stringMatching(/^body/) }] } },
      });
      expect(backend.seen).toEqual([]);
      // As a text it arrives digit by digit.
      expect((await send(wrap(JSON.stringify(body)))).result).toMatchObject({ status: 200 });
      expect(backend.seen).toMatchObject([{ body }]);
    },
  );
});

describe('a failure after a request was sent', () => {
  it.each([
    ['POST', {}, false],
    ['PATCH', {}, false],
    ['POST', { 'Idempotency-Key': 'k1' }, true],
    ['PUT', {}, true],
    ['GET', {}, true],
  ])('a failure after %s with headers %j was sent is retryable: %s', async (method, headers, retryable) => {
    backend.answer = (response) => response.socket?.resetAndDestroy();
    const { error } = await proxy({ endpoint: '/x', method, headers });
    expect(error).toMatchObject({ code: 502, data: { retryable } });
  });
});

describe('refused without a connection', () => {
  it.each([
    '/%252e%252e/secret',
    '%252e%252e/secret',
    '/..%252fsecret',
    '/..%3b/secret',
    '',
    'api/users',
    '//evil.example/x',
    'http://evil.example/x',
    'https:evil.example',
    '/\\evil.example',
    '\\\\evil.example',
    '/../admin',
    '/a/../../admin',
    '/%2e%2e/admin',
    '/.%2E/admin',
    '/a/..;/admin',
    '/..%2fadmin',
    '/a%2f..%2fadmin',
    '/a%5c..%5cadmin',
    '/a%00b',
    '/a\r\nX-Injected: 1',
    '/a\u0000',
    '@evil.example/',
    ':80/',
    `/${'a'.repeat(3_000)}`,
  ])('the endpoint %j is refused without a connection: -32602', async (endpoint) => {
    const { status, error } = await proxy({ endpoint });
    expect(status).toBe(200);
    expect(error).toMatchObject({ code: -32602, data: { issues: [{ path: 'endpoint' }] } });
    expect(backend.connections).toBe(0);
  });

  it.each([
    ['a header name with a line break', { headers: { 'a\r\nb': '1' } }],
    ['a header value with a line break', { headers: { a: '1\r\nb: 2' } }],
    ['a header value that is no string', { headers: { a: 1 } }],
    ['an unknown method', { method: 'TRACE' }],
    ['CONNECT', { method: 'CONNECT' }],
    ['a base URL of the caller’s', { base_url: 'http://evil.example' }],
    ['a query that nests', { query: { a: { b: 1 } } }],
    ['a header value that HTTP cannot carry', { headers: { 'x-name': '\u0100' } }],
    ['a control character in a header value', { headers: { 'x-name': 'a\u0001' } }],
  ])('a call is refused without a connection for %s: -32602', async (_name, params) => {
    expect((await proxy({ endpoint: '/x', ...params })).error).toMatchObject({ code: -32602 });
    expect(backend.connections).toBe(0);
  });

  it('a backend that is not configured is refused without a connection: 403, and who disabled it', async () => {
    expect((await proxy({ endpoint: '/x', backend: 'nowhere' })).error).toMatchObject({
      code: 403,
      data: { reason: 'forbidden', disabled_by: 'deployment', backend: 'nowhere' },
    });
    const bare = await startInProcess({ GATEWAY_API_KEY: KEY });
    const { status, error } = await proxy({ endpoint: '/x' }, KEY, bare);
    expect({ status, code: error?.code, by: error?.data.disabled_by }).toEqual({
      status: 200,
      code: 403,
      by: 'deployment',
    });
    await bare.close();
  });

  it('a backend with an inside address that the operator has not marked internal is refused without a connection: 403', async () => {
    expect((await proxy({ endpoint: '/x', backend: 'public' })).error).toMatchObject({ code: 403 });
    expect(other.connections).toBe(0);
  });

  it('a key without the scope is refused without a connection: 403', async () => {
    expect((await proxy({ endpoint: '/x' }, 'key-without-proxy')).error).toMatchObject({
      code: 403,
      data: { missing_scope: 'proxy' },
    });
    expect(backend.connections).toBe(0);
  });
});

it('the log contains nothing of the request or the response', async () => {
  backend.answer = (response) => json(response, { secret: 'answer-of-the-backend' });
  await proxy({
    endpoint: '/x?q=secret-query',
    method: 'POST',
    body: { secret: 'sent-body' },
    headers: { Authorization: 'Bearer user-token' },
  });
  const logged = gateway.logged();
  expect(logged).toContain('bff.proxy');
  for (const secret of [KEY, 'answer-of-the-backend', 'sent-body', 'user-token', 'secret-query'])
    expect(logged).not.toContain(secret);
});
