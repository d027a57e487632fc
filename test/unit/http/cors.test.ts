// Every HTTP endpoint on an address that other machines reach allows exactly the listed origins, answers their
// preflights, and lets their pages read the headers of limits.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { call } from '../../cases/jsonrpc.cases.ts';
import { type InProcessGateway, startInProcess } from '../../support/fixtures/gateway/in-process.ts';

const LISTED = 'https://app.example';
const KEY = { 'x-api-key': 'key-of-cors' };
const ENDPOINTS = [
  ['/health', 'GET', '?verbose=1', undefined],
  ['/jsonrpc', 'POST', '', JSON.stringify(call('conversation.list'))],
  ['/webhook', 'POST', '', '{"event":"a","data":{}}'],
] as const;

let gateway: InProcessGateway;
beforeAll(async () => {
  const keys = [{ id: 'cors', key: KEY['x-api-key'], limits: '6/day' }];
  gateway = await startInProcess({
    HOST: '0.0.0.0',
    ALLOWED_ORIGINS: `${LISTED} https://other.example`,
    GATEWAY_KEYS: JSON.stringify({ keys }),
  });
});
afterAll(() => gateway.close());

describe.each(ENDPOINTS)('%s', (path, method, query, body) => {
  const send = (origin: string) =>
    fetch(`${gateway.url}${path}${query}`, {
      method,
      headers: { ...KEY, origin },
      ...(body !== undefined && { body }),
    });
  const preflight = (origin: string) =>
    fetch(`${gateway.url}${path}`, {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': method, 'access-control-request-headers': 'x-api-key' },
    });

  it('the preflight of a listed origin is answered without a key', async () => {
    const { status, headers } = await preflight(LISTED);
    expect([status, headers.get('access-control-allow-origin')]).toEqual([204, LISTED]);
    expect(headers.get('access-control-allow-methods')).toContain(method);
    for (const name of ['X-API-Key', 'Authorization']) {
      expect(headers.get('access-control-allow-headers')).toContain(name);
    }
  });

  it.each(['https://evil.example', 'http://app.example', `${LISTED}:8443`, `${LISTED}.evil`, 'null'])(
    'pages of %s are allowed nothing',
    async (origin) => {
      const { status, headers } = await preflight(origin);
      expect([status, headers.get('access-control-allow-origin')]).toEqual([204, null]);
      expect([headers.get('access-control-allow-methods'), headers.get('vary')]).toEqual([null, 'Origin']);
    },
  );

  it('a listed page can read the limits, of an answer and of a refusal', async () => {
    const answers = [await send(LISTED), await send(LISTED)];
    // The last of three endpoints finds the six calls of the day used up.
    if (path === '/webhook') answers.push(await send(LISTED));
    expect(answers.map(({ status }) => status)).toEqual(path === '/webhook' ? [200, 200, 429] : [200, 200]);
    for (const { headers } of answers) {
      expect(headers.get('access-control-allow-origin')).toBe(LISTED);
      const exposed = headers.get('access-control-expose-headers');
      for (const name of ['X-RateLimit-Limit', 'X-RateLimit-Remaining', 'X-RateLimit-Reset', 'Retry-After']) {
        expect(exposed).toContain(name);
      }
      expect(headers.get('x-ratelimit-reset')).toMatch(/^\d+$/);
    }
  });
});
