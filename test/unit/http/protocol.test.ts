// A port that also serves sockets answers whatever HTTP allows a client to send: other upgrades, expectations, other
// forms of a target.
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type InProcessGateway, startInProcess } from '../../support/fixtures/gateway/in-process.ts';

const BODY = '{"jsonrpc":"2.0","id":1,"method":"conversation.list"}';

let gateway: InProcessGateway;
beforeAll(async () => {
  gateway = await startInProcess();
});
afterAll(() => gateway.close());

/** All that the gateway writes until it ends the connection. */
async function exchange(head: string, body = ''): Promise<string> {
  const socket = connect(Number(new URL(gateway.url).port), '127.0.0.1');
  socket.write(`${head}\r\nHost: localhost\r\n\r\n${body}`);
  return text(socket);
}

const post = (lines: string): string => `POST /jsonrpc HTTP/1.1\r\nContent-Length: ${BODY.length}\r\n${lines}`;
const KEY = 'X-API-Key: dev-key';

describe('an upgrade to anything but WebSocket', () => {
  const H2C = 'Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__';

  it('an upgrade to anything but WebSocket is not taken up: the request is answered as it is (Java offers h2c with every one)', async () => {
    expect(await exchange(`GET /health HTTP/1.1\r\n${H2C}`)).toMatch(/^HTTP\/1\.1 200 OK.*\{"status":"healthy"\}$/s);
    expect(await exchange(post(`${KEY}\r\n${H2C}`), BODY)).toMatch(/^HTTP\/1\.1 200 OK.*"result":/s);
  });
});

describe('Expect', () => {
  it('Expect: 100-continue requests the body only once the key and the size are checked', async () => {
    const expects = 'Connection: close\r\nExpect: 100-continue';
    expect(await exchange(post(expects))).toMatch(/^HTTP\/1\.1 401 /);
    const huge = `POST /jsonrpc HTTP/1.1\r\nContent-Length: 5000000\r\n${KEY}\r\n${expects}`;
    expect(await exchange(huge)).toMatch(/^HTTP\/1\.1 413 /);
    expect(await exchange(post(`${KEY}\r\n${expects}`), BODY)).toMatch(
      /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 /,
    );
  });

  it('any other Expect is refused in JSON', async () => {
    const answer = await exchange(post(`${KEY}\r\nConnection: close\r\nExpect: miracles`), BODY);
    expect(answer).toMatch(/^HTTP\/1\.1 400 .*"reason":"invalid_request"/s);
  });
});

describe('a target', () => {
  it('a target may name the host, too, as a proxy sends it', async () => {
    const answer = await exchange('GET http://localhost/health?x=1 HTTP/1.1\r\nConnection: close');
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
  });

  it.each(['POST', 'PUT', 'DELETE', 'OPTIONS'])(
    'the path / can be read and nothing else: %s is answered with 405',
    async (method) => {
      const response = await fetch(gateway.url, { method, ...(method === 'OPTIONS' ? {} : { body: BODY }) });
      expect([response.status, response.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
      expect(await response.json()).toMatchObject({ error: { data: { reason: 'method_not_allowed' } } });
    },
  );
});

describe('a key in the query', () => {
  const query = 'api_key=dev-key&key=dev-key&x-api-key=dev-key&X-API-Key=dev-key&access_token=dev-key&token=dev-key';

  it.each([
    ['/health?verbose=1&', 'GET'],
    ['/jsonrpc?', 'POST'],
    ['/webhook?', 'POST'],
    ['/webhook/sweep?', 'POST'],
  ])('a key in the query is not a credential: %s', async (path, method) => {
    const init = { method, ...(method === 'POST' && { body: BODY }) };
    expect((await fetch(`${gateway.url}${path}${query}`, init)).status).toBe(401);
    const headers = { 'x-api-key': 'dev-key' };
    expect((await fetch(`${gateway.url}${path}${query}`, { ...init, headers })).status).not.toBe(401);
  });
});

describe('a verb that an endpoint does not take', () => {
  it.each([
    ['/health', 'POST', 'GET, HEAD, OPTIONS'],
    ['/jsonrpc', 'GET', 'POST, OPTIONS'],
    ['/webhook', 'DELETE', 'POST, OPTIONS'],
    ['/webhook/sweep', 'GET', 'POST, OPTIONS'],
    ['/ws', 'POST', 'GET, HEAD'],
  ])(
    'a verb that an endpoint does not take is answered with 405 in JSON, which names those that it takes: %s',
    async (path, method, allow) => {
      const response = await fetch(`${gateway.url}${path}`, { method, headers: { 'x-api-key': 'dev-key' } });
      expect([response.status, response.headers.get('allow')]).toEqual([405, allow]);
      expect(response.headers.get('content-type')).toMatch(/^application\/json/);
      expect(await response.json()).toMatchObject({ error: { code: 405, data: { reason: 'method_not_allowed' } } });
    },
  );
});
