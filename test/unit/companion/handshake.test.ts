// Only clients with a valid credential and an allowed origin may open a socket; the others get an HTTP error in JSON.
import { createHash } from 'node:crypto';
import { connect as connectTcp } from 'node:net';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { RpcError } from '../../../shared/errors.ts';
import type { Fixture, Message } from '../../support/fixtures/gateway/companion.ts';
import { createFixture, KEY, refusal } from '../../support/fixtures/gateway/companion.ts';

const OTHER = 'another-key';
const ORIGIN = 'https://app.example.com';
let fixture: Fixture;

beforeAll(async () => {
  const keys = JSON.stringify({ keys: [KEY, OTHER].map((key) => ({ id: key, key })) });
  fixture = await createFixture({ env: { ALLOWED_ORIGINS: ORIGIN, GATEWAY_KEYS: keys }, sockets: { perKeyMax: 3 } });
});
afterAll(() => fixture.close());

async function ticket(): Promise<string> {
  const client = await fixture.connect();
  const { result } = await client.call('auth.ticket');
  client.socket.close();
  await client.closed;
  return String(result?.ticket);
}

describe('a key', () => {
  it.each([
    ['X-API-Key', { 'X-API-Key': KEY }],
    ['Authorization: Bearer', { Authorization: `Bearer ${KEY}` }],
  ])('a key opens a socket as %s', async (_, headers) => {
    const client = await fixture.connect({ headers });
    expect((await client.call('conversation.status', { session_id: 'x' })).result?.status).toBe('not_found');
    client.socket.close();
    expect((await client.closed).code).toBe(1005);
  });

  it.each([
    ['nothing', {}, ''],
    ['a wrong key', { 'X-API-Key': 'wrong' }, ''],
    ['a key in the query', {}, `?api_key=${KEY}&X-API-Key=${KEY}&token=${KEY}`],
  ])('a key is required: %s is answered 401, in JSON, before any upgrade', async (_, headers, query) => {
    const { status, body, headers: answered } = await refusal(fixture.url + query, { headers });
    expect(status).toBe(401);
    expect(body.error).toMatchObject({ code: 401, data: { reason: 'unauthorized' } });
    expect(answered['content-type']).toMatch(/^application\/json/);
    expect(answered['www-authenticate']).toMatch(/Bearer/);
  });

  it('a key opens as many sockets as its limit, and another one after one has ended', async () => {
    const clients = await Promise.all([1, 2, 3].map(() => fixture.connect()));
    const { status, body, headers } = await refusal(fixture.url, { headers: { 'X-API-Key': KEY } });
    expect(status).toBe(429);
    expect(body.error?.data).toMatchObject({ reason: 'rate_limited', limit: 3 });
    expect(headers['retry-after']).toBe('1');
    clients[0]?.socket.close();
    await clients[0]?.closed;
    const another = await fixture.connect();
    for (const client of [...clients, another]) client.socket.close();
    await Promise.all([...clients, another].map((client) => client.closed));
  });
});

describe('a ticket', () => {
  it('a ticket opens one socket, as a subprotocol, and only gateway.v1 is echoed', async () => {
    const client = await fixture.connect({
      headers: {},
      protocols: ['gateway.v1', `gateway.ticket.${await ticket()}`],
    });
    expect(client.socket.protocol).toBe('gateway.v1');
    // The client offers permessage-deflate; the server takes no compression.
    expect(client.socket.extensions).toBe('');
    expect((await client.call('conversation.list')).result?.conversations).toEqual([]);
    client.socket.close();
    await client.closed;
  });

  it.each<readonly [string, Record<string, string>]>([
    ['Basic', { Authorization: 'Basic dTpw' }],
    ['an empty key', { 'X-API-Key': '' }],
    ['a wrong key', { 'X-API-Key': 'wrong' }],
    ['a token of another system', { Authorization: 'Bearer a.b.c' }],
  ])('a ticket is enough, whatever else is sent: %s', async (_, headers) => {
    const client = await fixture.connect({ headers, protocols: ['gateway.v1', `gateway.ticket.${await ticket()}`] });
    client.socket.close();
    await client.closed;
  });

  it('a ticket is enough while a key beside it cannot be looked up', async () => {
    const protocols = ['gateway.v1', `gateway.ticket.${await ticket()}`];
    const { keys } = fixture.services;
    const known = keys.find.bind(keys);
    const wrong = createHash('sha256').update('wrong').digest();
    const find = vi.spyOn(keys, 'find').mockImplementation((digest) => {
      if (wrong.equals(digest)) throw new RpcError('unavailable');
      return known(digest);
    });
    const headers = { 'X-API-Key': 'wrong' };
    expect((await refusal(fixture.url, { headers })).status).toBe(503);
    const client = await fixture.connect({ headers, protocols });
    client.socket.close();
    await client.closed;
    find.mockRestore();
  });

  it('a ticket is for pages of listed origins', async () => {
    const protocols = ['gateway.v1', `gateway.ticket.${await ticket()}`];
    const { status, body } = await refusal(fixture.url, {
      headers: { Origin: 'https://elsewhere.example' },
      protocols,
    });
    expect([status, body.error?.data.reason]).toEqual([403, 'forbidden']);
    fixture.services.log.flush();
    expect(fixture.logged.join('').match(/"origin":"https:\/\/elsewhere\.example".*ALLOWED_ORIGINS/g)).toHaveLength(1);
  });

  it('a ticket works once: of many sockets with it at the same time, exactly one opens', async () => {
    const protocols = ['gateway.v1', `gateway.ticket.${await ticket()}`];
    const outcomes = await Promise.allSettled(
      Array.from({ length: 6 }, () => fixture.connect({ headers: {}, protocols })),
    );
    const opened = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
    expect(opened).toHaveLength(1);
    const again = await refusal(fixture.url, { headers: {}, protocols });
    expect(again.status).toBe(401);
    for (const client of opened) {
      client.socket.close();
      await client.closed;
    }
  });

  it('a ticket is refused when it is unknown, malformed, doubled, or without gateway.v1 beside it', async () => {
    const fresh = await ticket();
    const other = await ticket();
    const of = (...protocols: string[]) => refusal(fixture.url, { protocols }).then(({ status }) => status);
    expect(await of('gateway.v1', `gateway.ticket.${'A'.repeat(43)}`)).toBe(401);
    expect(await of('gateway.v1', 'gateway.ticket.short')).toBe(401);
    expect(await of('gateway.v1', `gateway.ticket.${fresh}`, `gateway.ticket.${other}`)).toBe(400);
    expect(await of(`gateway.ticket.${fresh}`)).toBe(400);
  });

  it('a ticket leaves neither itself nor the key in the store, and nothing once it is used', async () => {
    const before = await fixture.services.store.query({ collection: 'tickets', orderBy: 'sealed_digest', limit: 100 });
    const text = await ticket();
    const stored = await fixture.services.store.query({ collection: 'tickets', orderBy: 'sealed_digest', limit: 100 });
    expect(stored.length).toBe(before.length + 1);
    expect(JSON.stringify(stored)).not.toContain(text);
    const client = await fixture.connect({ headers: {}, protocols: ['gateway.v1', `gateway.ticket.${text}`] });
    const after = await fixture.services.store.query({ collection: 'tickets', orderBy: 'sealed_digest', limit: 100 });
    expect(after.length).toBe(before.length);
    client.socket.close();
    await client.closed;
  });
});

describe('an origin', () => {
  it.each([
    ['a listed one', ORIGIN],
    ['our own by address', 'http://127.0.0.1:PORT'],
    ['our own by name', 'http://localhost:PORT'],
  ])('an origin may connect when it is %s', async (_, origin) => {
    const headers = { 'X-API-Key': KEY, Origin: origin.replace('PORT', String(fixture.port)) };
    const client = await fixture.connect({ headers });
    client.socket.close();
    await client.closed;
  });

  it.each(['https://evil.example.com', `${ORIGIN}.evil.com`, 'http://app.example.com', 'null', 'http://127.0.0.1:1'])(
    'an origin is refused beside the public key of a local gateway when it is %s',
    async (origin) => {
      const { status, body } = await refusal(fixture.url, { headers: { 'X-API-Key': KEY, Origin: origin } });
      expect(status).toBe(403);
      expect(body.error?.data.reason).toBe('forbidden');
    },
  );
});

describe('a key that is not public', () => {
  it.each(['https://elsewhere.example', 'null', 'http://127.0.0.1:1'])(
    'a key that is not public opens a socket from any origin: %s',
    async (origin) => {
      const client = await fixture.connect({ headers: { 'X-API-Key': OTHER, Origin: origin } });
      client.socket.close();
      await client.closed;
    },
  );

  it('a key that is not public opens no socket under another host name', async () => {
    const { status } = await refusal(fixture.url, { headers: { 'X-API-Key': OTHER, Host: 'rebind.example' } });
    expect(status).toBe(403);
  });
});

describe('a request that is no handshake', () => {
  const raw = (lines: readonly string[]): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connectTcp(fixture.port, '127.0.0.1');
      let text = '';
      socket.on('data', (chunk) => {
        text += String(chunk);
      });
      socket.on('close', () => resolve(text));
      socket.on('error', reject);
      socket.end(`${lines.join('\r\n')}\r\n\r\n`);
    });
  const base = [
    'GET /ws HTTP/1.1',
    'Host: localhost',
    'Connection: Upgrade',
    'Upgrade: websocket',
    `X-API-Key: ${KEY}`,
  ];
  const key = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==';

  it.each([
    ['another version', [...base, key, 'Sec-WebSocket-Version: 7'], 426],
    ['no key', [...base, 'Sec-WebSocket-Version: 13'], 426],
    ['a key that is none', [...base, 'Sec-WebSocket-Key: short', 'Sec-WebSocket-Version: 13'], 426],
    [
      'another upgrade',
      [...base.map((line) => line.replace('websocket', 'h2c')), key, 'Sec-WebSocket-Version: 13'],
      426,
    ],
    ['another path', [...base, key, 'Sec-WebSocket-Version: 13'].map((line) => line.replace('/ws', '/jsonrpc')), 404],
  ])('a request that is no handshake is answered in JSON when it has %s', async (_, lines, status) => {
    const answer = await raw(lines);
    expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    const body: Message = JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4));
    expect(body.error?.message).toBeTypeOf('string');
  });

  it('a request that is no handshake leaves no socket open', () => {
    expect(fixture.sockets.size).toBe(0);
  });
});
