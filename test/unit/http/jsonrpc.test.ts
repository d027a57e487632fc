// `POST /jsonrpc` passes the cases of every transport, and what only HTTP has: authentication, statuses, headers, CORS.
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Answer, CASE_KEYS, call, jsonRpcCases, type Transport } from '../../cases/jsonrpc.cases.ts';
import { createCloudFixture } from '../../support/fixtures/gateway/forward.ts';
import { type InProcessGateway, startInProcess } from '../../support/fixtures/gateway/in-process.ts';
import { createTestClock } from '../../support/fixtures/limiter/rate-limit.ts';

async function openHttp(): Promise<Transport> {
  const gateway = await startInProcess({ GATEWAY_KEYS: CASE_KEYS });
  return { call: (body, key = 'wide') => send(gateway.url, body, key), close: gateway.close };
}

async function send(url: string, body: string | Uint8Array, key: string): Promise<Answer> {
  const headers = { 'x-api-key': key, 'content-type': 'application/json' };
  return read(await fetch(`${url}/jsonrpc`, { method: 'POST', headers, body: Buffer.from(body) }));
}

async function read(response: Response): Promise<Answer> {
  const text = await response.text();
  if (text !== '') expect(response.headers.get('content-type')).toBe('application/json; charset=utf-8');
  return { status: response.status, headers: response.headers, payload: text === '' ? undefined : JSON.parse(text) };
}

jsonRpcCases('HTTP', openHttp);

jsonRpcCases('HTTP of a function whose companion runs turns', async () => {
  const cloud = await createCloudFixture({ GATEWAY_KEYS: CASE_KEYS }, 'companion');
  return { call: (body, key = 'wide') => send(cloud.url, body, key), close: cloud.close };
});

describe('POST /jsonrpc', () => {
  const ORIGIN = 'https://app.example';
  const KEYS = {
    keys: [
      { id: 'one', key: 'key-one', limits: '1000/minute,5000/hour' },
      { id: 'old', key: 'key-old', expires_at: '2020-01-01T00:00:00Z' },
      ...Array.from({ length: 4 }, (_, n) => ({ id: `few-${n}`, key: `few-${n}`, limits: '2/day,100/minute' })),
    ],
  };
  let gateway: InProcessGateway;
  beforeAll(async () => {
    gateway = await startInProcess({ GATEWAY_KEYS: JSON.stringify(KEYS), ALLOWED_ORIGINS: ORIGIN });
  });
  afterAll(() => gateway.close());

  const STATUS = JSON.stringify(call('conversation.status', { session_id: 's' }));
  const post = (
    headers: Record<string, string>,
    init: RequestInit & { readonly path?: string } = {},
  ): Promise<Answer> =>
    fetch(`${gateway.url}${init.path ?? '/jsonrpc'}`, { method: 'POST', body: STATUS, headers, ...init }).then(read);
  const KEY = { 'x-api-key': 'key-one' };

  it('a refusal by the method, here for the tokens of the day, has the delay before a retry too', async () => {
    const spent = await startInProcess({ GATEWAY_API_KEY: 'dev-key', GATEWAY_DAILY_TOKENS: '1' });
    const prompt = () =>
      fetch(`${spent.url}/jsonrpc`, {
        method: 'POST',
        headers: { 'x-api-key': 'dev-key' },
        body: JSON.stringify(call('conversation.prompt', { prompt: 'hello' })),
      }).then(read);
    expect(await prompt()).toMatchObject({ status: 200 });
    const { status, headers, payload } = await prompt();
    await spent.close();
    expect(status).toBe(429);
    expect(payload).toMatchObject({ error: { code: 429, data: { reason: 'rate_limited' } } });
    // Less than a day, and not the one second of an error without a known time.
    expect(Number(headers?.get('retry-after'))).toBeGreaterThan(1);
    expect(Number(headers?.get('retry-after'))).toBeLessThanOrEqual(86_400);
  });

  it('a batch has an Idempotency-Key for each call by its id: sent again, all are answered as before', async () => {
    const promptCall = (id: number, prompt: string) => ({ ...call('conversation.prompt', { prompt }), id });
    const body = JSON.stringify([promptCall(1, 'one'), promptCall(2, 'two')]);
    const headers = { ...KEY, 'idempotency-key': 'batch-1' };
    const first = await post(headers, { body });
    expect(first.payload).toMatchObject([{ result: { type: 'ai_response' } }, { result: { type: 'ai_response' } }]);
    expect((await post(headers, { body })).payload).toEqual(first.payload);
  });

  describe('authentication', () => {
    it.each<readonly [string, Record<string, string>]>([
      ['X-API-Key', KEY],
      ['Bearer', { authorization: 'Bearer key-one' }],
      ['bearer in any case', { authorization: 'bearer key-one' }],
      ['X-API-Key beside a token of another system', { ...KEY, authorization: 'Bearer a.b.c' }],
      ['X-API-Key beside Basic', { ...KEY, authorization: 'Basic dTpw' }],
      ['Bearer beside an empty X-API-Key', { 'x-api-key': '', authorization: 'Bearer key-one' }],
      ['both alike', { ...KEY, authorization: 'Bearer key-one' }],
    ])('%s is accepted as a credential', async (_name, headers) => {
      expect((await post(headers)).status).toBe(200);
    });

    it.each<readonly [string, Record<string, string>, string]>([
      ['nothing', {}, '/jsonrpc'],
      ['an empty key', { 'x-api-key': '' }, '/jsonrpc'],
      ['a wrong key', { 'x-api-key': 'nope' }, '/jsonrpc'],
      ['the key in another case', { 'x-api-key': 'KEY-ONE' }, '/jsonrpc'],
      ['an expired key', { 'x-api-key': 'key-old' }, '/jsonrpc'],
      ['two keys that differ', { ...KEY, authorization: 'Bearer few-0' }, '/jsonrpc'],
      ['Basic', { authorization: `Basic ${Buffer.from('a:key-one').toString('base64')}` }, '/jsonrpc'],
      ['a key of 100 kB', { 'x-api-key': 'x'.repeat(10_000) }, '/jsonrpc'],
      ['a key in the query', {}, '/jsonrpc?key=key-one&api_key=key-one&x-api-key=key-one&access_token=key-one'],
      ['a key in a cookie', { cookie: 'x-api-key=key-one' }, '/jsonrpc'],
    ])('a call with %s is answered 401 in the shape of every error', async (_name, headers, path) => {
      const answer = await post(headers, { path });
      expect(answer.status).toBe(401);
      expect(answer.payload).toEqual({
        jsonrpc: '2.0',
        id: null,
        error: {
          code: 401,
          message: expect.stringMatching(/^Unauthorized/),
          data: { reason: 'unauthorized', request_id: answer.headers?.get('x-request-id'), retryable: false },
        },
      });
      expect(answer.headers?.get('www-authenticate')).toMatch(/^Bearer/);
      expect(answer.headers?.get('x-ratelimit-limit')).toBeNull();
    });

    it('authentication precedes every check of the body, so that its result reveals nothing about it', async () => {
      for (const body of ['{', '[]', 'x'.repeat((1 << 20) + 1)]) expect((await post({}, { body })).status).toBe(401);
      expect((await post({ 'content-encoding': 'gzip' }, { body: gzipSync('x') })).status).toBe(401);
    });

    it('no key is in the log', async () => {
      await post({ 'x-api-key': 'hunter2' });
      await post(KEY);
      expect(gateway.logged()).not.toMatch(/hunter2|key-one/);
      expect(gateway.logged()).toContain('"key_id":"one"');
    });
  });

  describe('the request', () => {
    it.each(['GET', 'PUT', 'DELETE', 'PATCH', 'HEAD'])('a request by %s is 405 with Allow', async (method) => {
      const answer = await post(KEY, { method, body: null });
      expect(answer.status).toBe(405);
      expect(answer.headers?.get('allow')).toBe('POST, OPTIONS');
      if (method !== 'HEAD')
        expect(answer.payload).toMatchObject({
          id: null,
          error: { code: 405, data: { reason: 'method_not_allowed' } },
        });
    });

    it('a request may have any content type, a query or a trailing slash', async () => {
      for (const type of ['application/json', 'text/plain', 'application/x-www-form-urlencoded', 'x']) {
        expect((await post({ ...KEY, 'content-type': type })).status).toBe(200);
      }
      expect((await post(KEY, { path: '/jsonrpc/?verbose=1' })).status).toBe(200);
    });

    it('a request below another path is 404, as JSON', async () => {
      expect(await post(KEY, { path: '/jsonrpc/x' })).toMatchObject({ status: 404, payload: { error: { code: 404 } } });
      expect(await post(KEY, { path: '/nope' })).toMatchObject({ status: 404, payload: { error: { code: 404 } } });
    });

    it('a request of 1 MiB is read, of one byte more is 413 and charged', async () => {
      const padded = STATUS.padEnd(1 << 20, ' ');
      expect((await post(KEY, { body: padded })).status).toBe(200);
      const answer = await post(KEY, { body: `${padded} ` });
      expect(answer).toMatchObject({
        status: 413,
        payload: { id: null, error: { code: 413, data: { limit_bytes: 1 << 20 } } },
      });
      expect(answer.headers?.get('x-ratelimit-remaining')).not.toBeNull();
    });

    it('a request in chunks of no stated length has the same bound', async () => {
      const inChunks = (bytes: number): Promise<Answer> => {
        const chunks = [Buffer.from(STATUS), ...Array.from({ length: 4 }, () => Buffer.alloc(1 << 17, ' '))];
        chunks.push(Buffer.alloc(bytes - Buffer.concat(chunks).length, ' '));
        const init = { body: ReadableStream.from(chunks), duplex: 'half' as const };
        return post(KEY, init);
      };
      expect((await inChunks(1 << 20)).status).toBe(200);
      expect(await inChunks((1 << 20) + 1)).toMatchObject({ status: 413, payload: { id: null, error: { code: 413 } } });
    });

    it.each(['gzip', 'br', 'deflate', 'zstd', 'x', 'gzip, identity'])(
      'a body encoded as %s is 415, not inflated',
      async (encoding) => {
        const answer = await post({ ...KEY, 'content-encoding': encoding }, { body: gzipSync(STATUS) });
        expect(answer).toMatchObject({ status: 415, payload: { id: null, error: { code: 415 } } });
        expect((await post({ ...KEY, 'content-encoding': 'Identity' })).status).toBe(200);
      },
    );

    it('a notification is 204 without a body, with the limits', async () => {
      const answer = await post(KEY, { body: JSON.stringify({ jsonrpc: '2.0', method: 'rpc.discover' }) });
      expect(answer).toMatchObject({ status: 204, payload: undefined });
      expect(answer.headers?.get('x-ratelimit-limit')).toBe('1000');
    });
  });

  describe('the headers of an answer', () => {
    it('responses have the limits of the tightest window, whether the call succeeds or fails', async () => {
      const clock = createTestClock();
      const still = await startInProcess({ GATEWAY_KEYS: JSON.stringify(KEYS) }, { clock });
      const sent: (string | null | undefined)[][] = [];
      for (const body of [STATUS, '{', JSON.stringify(call('nope')), '[]']) {
        const { headers } = await fetch(`${still.url}/jsonrpc`, { method: 'POST', headers: KEY, body }).then(read);
        sent.push(['limit', 'remaining', 'reset'].map((name) => headers?.get(`x-ratelimit-${name}`)));
      }
      const reset = String(clock.now() / 1_000 + 60);
      expect(sent).toEqual(['999', '998', '997', '996'].map((remaining) => ['1000', remaining, reset]));
      await still.close();
    });

    it('the headers of a 429 contain the same delay before a retry as its body', async () => {
      await post({ 'x-api-key': 'few-0' });
      const last = await post({ 'x-api-key': 'few-0' });
      expect(last.headers?.get('x-ratelimit-remaining')).toBe('0');
      const { status, headers, payload } = await post({ 'x-api-key': 'few-0' });
      expect(status).toBe(429);
      const data = (payload as { readonly error: { readonly data: Record<string, unknown> } }).error.data;
      expect(data).toMatchObject({ limit: 2, remaining: 0, reset: Number(headers?.get('x-ratelimit-reset')) });
      expect(headers?.get('x-ratelimit-limit')).toBe('2');
      expect(headers?.get('x-ratelimit-remaining')).toBe('0');
      expect(headers?.get('retry-after')).toBe(String(Math.ceil(Number(data.retry_after_ms) / 1000)));
    });

    it('the headers of a refused batch show that it consumed nothing', async () => {
      const key = { 'x-api-key': 'few-1' };
      const batch = await post(key, { body: JSON.stringify([call('nope'), call('nope'), call('nope')]) });
      expect(batch.status).toBe(429);
      expect(batch.headers?.get('x-ratelimit-remaining')).toBe('2');
      // Three never fit into two a day: coming back does not help, as it would otherwise.
      expect(batch.payload).toMatchObject(Array(3).fill({ error: { data: { retryable: false } } }));
      await post(key, { body: JSON.stringify([call('nope')]) });
      const again = await post(key, { body: JSON.stringify([call('nope'), call('nope')]) });
      expect(again.payload).toMatchObject(Array(2).fill({ error: { data: { retryable: true } } }));
      expect((await post(key)).headers?.get('x-ratelimit-remaining')).toBe('0');
    });

    it('the headers of an answer name the request: the caller’s own id where it is harmless, else a new one', async () => {
      const own = await post({ ...KEY, 'x-request-id': 'trace-1.2_3' }, { body: '{' });
      expect(own.headers?.get('x-request-id')).toBe('trace-1.2_3');
      expect(own.payload).toMatchObject({ error: { data: { request_id: 'trace-1.2_3' } } });
      for (const id of ['x'.repeat(65), 'a b', '<script>', '"}']) {
        expect((await post({ ...KEY, 'x-request-id': id })).headers?.get('x-request-id')).toMatch(/^req_[0-9a-f]{32}$/);
      }
    });

    it('an answer forbids caching and sniffing', async () => {
      const { headers } = await post(KEY);
      expect(headers?.get('cache-control')).toBe('no-store');
      expect(headers?.get('x-content-type-options')).toBe('nosniff');
    });
  });

  describe('CORS', () => {
    const preflight = (origin: string): Promise<Answer> =>
      post({ origin, 'access-control-request-method': 'POST' }, { method: 'OPTIONS', body: null });

    it('the preflight of a listed origin is answered without a key', async () => {
      const { status, headers } = await preflight(ORIGIN);
      expect(status).toBe(204);
      expect(headers?.get('access-control-allow-origin')).toBe(ORIGIN);
      expect(headers?.get('access-control-allow-methods')).toContain('POST');
      // The last ones are what tracing in a page adds to every request.
      for (const name of ['X-API-Key', 'Authorization', 'Content-Type', 'traceparent', 'tracestate', 'baggage']) {
        expect(headers?.get('access-control-allow-headers')).toContain(name);
      }
      expect(headers?.get('access-control-allow-credentials')).toBeNull();
    });

    it('the limits and the request id are exposed to the page, on failures too', async () => {
      for (const init of [{}, { body: '{' }]) {
        const { headers } = await post({ ...KEY, origin: ORIGIN }, init);
        expect(headers?.get('access-control-allow-origin')).toBe(ORIGIN);
        expect(headers?.get('vary')).toBe('Origin');
        for (const name of [
          'X-RateLimit-Limit',
          'X-RateLimit-Remaining',
          'X-RateLimit-Reset',
          'Retry-After',
          'X-Request-Id',
        ]) {
          expect(headers?.get('access-control-expose-headers')).toContain(name);
        }
      }
      expect((await post({ origin: ORIGIN })).headers?.get('access-control-allow-origin')).toBe(ORIGIN);
    });

    it.each([
      'https://evil.example',
      'http://app.example',
      'https://app.example:8443',
      'https://app.example.evil',
      'null',
    ])('no CORS headers are sent to a page of %s', async (origin) => {
      for (const { headers } of [await preflight(origin), await post({ ...KEY, origin })]) {
        expect(headers?.get('access-control-allow-origin')).toBeNull();
        expect(headers?.get('vary')).toBe('Origin');
      }
    });
  });
});
