// The real local gateway answers bad input always in JSON, with the right code and never with a 5xx, and its memory
// does not grow. test/unit/rpc shows case by case what a body may contain; here the process itself is attacked.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LocalGateway, startLocalGateway } from '../support/fixtures/gateway/local-gateway.ts';

const MIB = 1 << 20;
let gateway: LocalGateway;
beforeAll(async () => {
  gateway = await startLocalGateway({
    env: { GATEWAY_LIMITS: '1000000/minute' },
    // A small heap makes a leak show early.
    nodeArgs: ['--max-old-space-size=256', '--max-semi-space-size=4'],
  });
});
afterAll(async () => {
  expect(await gateway.stop()).toBe(0);
});

const call = (method: string, params: unknown, id: unknown = 1): string =>
  JSON.stringify({ jsonrpc: '2.0', method, params, id });
const envelope = (params: string): string =>
  `{"jsonrpc":"2.0","method":"conversation.status","id":1,"params":${params}}`;

type Case = readonly [name: string, body: string | Uint8Array, code: number, status: number];

const CORPUS: readonly Case[] = [
  ['nothing', '', -32700, 400],
  ['white space', ' \n', -32700, 400],
  ['HTML', '<html></html>', -32700, 400],
  ['a form', 'jsonrpc=2.0&method=x', -32700, 400],
  ['an unclosed object', '{"jsonrpc":"2.0"', -32700, 400],
  ['single quotes', "{'jsonrpc':'2.0'}", -32700, 400],
  ['a trailing comma', '{"jsonrpc":"2.0",}', -32700, 400],
  ['NaN', envelope('{"session_id":NaN}'), -32700, 400],
  ['a control character', envelope('{"session_id":"\u0001"}'), -32700, 400],
  ['invalid UTF-8', Buffer.concat([Buffer.from('{"a":"'), Uint8Array.of(0xc0, 0xaf), Buffer.from('"}')]), -32700, 400],
  ['UTF-16', Buffer.from(envelope('{}'), 'utf16le'), -32700, 400],
  ['a byte order mark', `\ufeff${envelope('{}')}`, -32700, 400],
  ['half a million opening brackets', '['.repeat(500_000), -32700, 400],
  ['half a million levels', '['.repeat(500_000) + ']'.repeat(500_000), -32600, 400],
  ['100 000 objects deep', `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`, -32600, 400],
  ['__proto__', envelope('{"__proto__":{"isAdmin":true}}'), -32600, 400],
  ['__proto__ escaped', envelope('{"\\u005f_proto__":1}'), -32600, 400],
  ['a duplicate key', '{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}', -32600, 400],
  ['a lone surrogate', envelope('{"session_id":"\\ud800"}'), -32600, 400],
  ['a number', '1', -32600, 400],
  ['null', 'null', -32600, 400],
  ['a huge id', `{"jsonrpc":"2.0","method":"x","id":${'9'.repeat(400)}}`, -32600, 400],
  ['a long id', call('x', {}, 'x'.repeat(100_000)), -32600, 400],
  ['an id that is an object', call('x', {}, {}), -32600, 400],
  ['a batch of 300 000', `[${'1,'.repeat(300_000)}1]`, -32600, 400],
  ['a long method', call('x'.repeat(500_000), {}), -32601, 200],
  ['a method with control characters', call('\r\n\u0000', {}), -32601, 200],
  ['toString', call('toString', {}), -32601, 200],
  [
    'constructor as a parameter',
    call('conversation.status', { session_id: 'a', constructor: { prototype: 1 } }),
    -32602,
    200,
  ],
  ['an array for a string', call('conversation.status', { session_id: ['a'] }), -32602, 200],
  ['a number for a string', envelope('{"session_id":1e400}'), -32602, 200],
  [
    '100 000 undeclared params',
    call('conversation.status', Object.fromEntries(Array.from({ length: 50_000 }, (_, n) => [`k${n}`, 1]))),
    -32602,
    200,
  ],
  ['a control character in a session id', call('conversation.status', { session_id: 'a\u0000b' }), -32602, 200],
  ['a session id of 129 characters', call('conversation.status', { session_id: 'x'.repeat(129) }), -32602, 200],
  ['a wrong cursor', call('conversation.list', { cursor: 'nonsense' }), -32602, 200],
  [
    'a cursor of the other order',
    call('conversation.history', { session_id: 'a', order: 'newest', cursor: 'WzFd' }),
    -32602,
    200,
  ],
  ['after_seq without a session', call('conversation.prompt', { prompt: 'a', after_seq: 0 }), -32602, 200],
  ['after_seq below 0', call('conversation.prompt', { prompt: 'a', session_id: 'a', after_seq: -1 }), -32602, 200],
  ['metadata that is no string', call('conversation.update', { session_id: 'a', metadata: { a: 1 } }), -32602, 200],
  [
    '17 pairs of metadata',
    call('conversation.update', {
      session_id: 'a',
      metadata: Object.fromEntries(Array.from({ length: 17 }, (_, n) => [`k${n}`, 'v'])),
    }),
    -32602,
    200,
  ],
  ['a title of white space', call('conversation.update', { session_id: 'a', title: ' \n' }), -32602, 200],
  ['retention of 0 days', call('conversation.update', { session_id: 'a', retention_days: 0 }), -32602, 200],
  ['a fork to a message below 0', call('conversation.fork', { session_id: 'a', to_seq: -1 }), -32602, 200],
  ['1 MiB + 1', Buffer.alloc(MIB + 1, 0x20), 413, 413],
  ['2 MiB', Buffer.alloc(2 * MIB, 0x5b), 413, 413],
];

async function post(body: string | Uint8Array, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${gateway.url}/jsonrpc`, {
    method: 'POST',
    body: Buffer.from(body),
    headers: { 'x-api-key': 'dev-key', 'content-type': 'application/json', ...headers },
    signal: AbortSignal.timeout(10_000),
  });
}

/** The code of the answer, which must be JSON with the status. */
async function codeOf(response: Response, status: number): Promise<unknown> {
  expect(response.status).toBe(status);
  expect(response.headers.get('content-type')).toMatch(/^application\/json/);
  const { error } = (await response.json()) as { readonly error: { readonly code: number } };
  return error.code;
}

/** A raw connection, its answer as text once `until` matches or the server has closed it. */
async function raw(chunks: readonly (string | Uint8Array)[], until?: RegExp): Promise<string> {
  const socket = connect(gateway.port, '127.0.0.1');
  // A server that refuses may reset a connection that still sends: its response before the reset counts.
  socket.on('error', () => {});
  let answer = '';
  const answered = new Promise<void>((resolve) => {
    socket.setEncoding('utf8').on('data', (text: string) => {
      answer += text;
      if (until?.test(answer)) resolve();
    });
    socket.once('close', () => resolve());
  });
  for (const chunk of chunks) await write(socket, chunk);
  await answered;
  socket.destroy();
  return answer;
}

async function write(socket: Socket, chunk: string | Uint8Array): Promise<void> {
  if (socket.destroyed || socket.write(chunk)) return;
  await new Promise<void>((resolve) => {
    socket.once('drain', resolve).once('close', resolve);
  });
}

const head = (lines: readonly string[], method = 'POST'): string =>
  [`${method} /jsonrpc HTTP/1.1`, 'Host: localhost', ...lines, '', ''].join('\r\n');
const OK = '{"jsonrpc":"2.0","method":"conversation.status","params":{"session_id":"a"},"id":1}';

describe('a bad body', () => {
  it.each(CORPUS)('a bad body of %s has its code', async (_name, body, code, status) => {
    expect(await codeOf(await post(body), status)).toBe(code);
  });

  it('a bad body that is a gzip bomb is 415 and never inflated', async () => {
    const bomb = gzipSync(Buffer.alloc(100 * MIB, 0x20));
    expect(await codeOf(await post(bomb, { 'content-encoding': 'gzip' }), 415)).toBe(415);
  });

  it('a body in chunks without a length is measured all the same', async () => {
    const chunk = (bytes: number): string => `${bytes.toString(16)}\r\n${' '.repeat(bytes)}\r\n`;
    const chunked = head(['X-API-Key: dev-key', 'Transfer-Encoding: chunked']);
    const small = await raw([chunked, `${OK.length.toString(16)}\r\n${OK}\r\n`, '0\r\n\r\n'], /\}$/);
    expect(small).toMatch(/^HTTP\/1\.1 200 .*"not_found"/s);
    const large = await raw([chunked, ...Array.from({ length: 40 }, () => chunk(64 << 10))], /"error"/);
    expect(large).toMatch(/^HTTP\/1\.1 413 .*"payload_too_large"/s);
  });

  it('a body that is sent byte by byte is read like any other, and one that stops halfway delays no other call', async () => {
    const stuck = connect(gateway.port, '127.0.0.1');
    stuck.write(head(['X-API-Key: dev-key', 'Content-Length: 1000']) + OK);
    const request = head(['X-API-Key: dev-key', `Content-Length: ${OK.length}`, 'Connection: close']) + OK;
    expect(await raw([...request])).toMatch(/^HTTP\/1\.1 200 .*"not_found"/s);
    stuck.destroy();
  });

  it('a request whose sender disconnects halfway leaves no open request', async () => {
    for (let n = 0; n < 20; n++) {
      const socket = connect(gateway.port, '127.0.0.1');
      await once(socket, 'connect');
      await write(socket, head(['X-API-Key: dev-key', `Content-Length: ${MIB}`]) + ' '.repeat(100_000));
      socket.destroy();
    }
    expect((await post(OK)).status).toBe(200);
  });
});

describe('bad HTTP', () => {
  it('invalid HTTP after a valid request ends the connection after the response', async () => {
    const good = `${head([`Content-Length: ${OK.length}`, 'X-API-Key: dev-key'])}${OK}`;
    const answer = await raw([`${good}garbage\r\n\r\n`]);
    expect(answer.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200']);
    expect(JSON.parse(answer.slice(answer.indexOf('\r\n\r\n')))).toMatchObject({ id: 1, result: {} });
  });

  it.each<readonly [string, string, number]>([
    ['garbage', 'hello there\r\n\r\n', 400],
    ['a TLS handshake', '\u0016\u0003\u0001\u0002\u0000\u0001\r\n\r\n', 400],
    ['two lengths', head(['Content-Length: 5', 'Content-Length: 6']), 400],
    ['a length and chunks', head(['Content-Length: 5', 'Transfer-Encoding: chunked']), 400],
    ['a length that is no number', head(['Content-Length: many']), 400],
    ['headers of 20 kB', head([`X-Long: ${'x'.repeat(20_000)}`]), 431],
    ['a chunk size that is no number', `${head(['Transfer-Encoding: chunked', 'X-API-Key: dev-key'])}zz\r\n`, 400],
  ])('bad HTTP is answered in JSON, then the connection ends: %s', async (_name, bytes, status) => {
    const answers = (await raw([bytes])).split(/(?=HTTP\/1\.1 )/);
    const last = answers.at(-1) ?? '';
    expect(last).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(last).toMatch(/content-type: application\/json/i);
    expect(JSON.parse(last.slice(last.indexOf('\r\n\r\n')))).toMatchObject({ error: { code: -32600 } });
  });

  it('bad HTTP by an unknown method or path is a JSON refusal', async () => {
    for (const [method, path, status] of [
      ['TRACE', '/jsonrpc', 405],
      ['BREW', '/jsonrpc', 400],
      ['GET', '/../../etc/passwd', 404],
      ['GET', '//evil.example/', 404],
      ['GET', '/%00', 404],
    ] as const) {
      const answer = await raw([`${method} ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`]);
      expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} .*application/json.*"error"`, 'si'));
    }
  });
});

describe('clients without a key', () => {
  it('clients without a key are answered before their 100 MB are read', async () => {
    const before = gateway.rssBytes();
    const chunk = Buffer.alloc(MIB, 0x20);
    const send = (): Promise<string> =>
      raw([head([`Content-Length: ${100 * MIB}`]), ...Array.from({ length: 100 }, () => chunk)]);
    for (const answer of await Promise.all([send(), send(), send()])) {
      expect(answer).toMatch(/^HTTP\/1\.1 401 .*"unauthorized"/s);
    }
    // One body held would be 100.
    expect((gateway.rssBytes() - before) / MIB).toBeLessThan(90);
  });
});

describe('the process', () => {
  it('the process does not grow, whatever it is sent, and answers as before', async () => {
    const round = async (): Promise<void> => {
      for (const [, body, , status] of CORPUS) {
        const response = await post(body);
        await response.arrayBuffer();
        expect(response.status).toBe(status);
      }
    };
    for (let n = 0; n < 3; n++) await round();
    // The collector frees in steps: what is kept for ever shows in every block of rounds, what is not yet freed does
    // not.
    const grownMib: number[] = [];
    while (grownMib.length < 10 && !grownMib.some((mib) => mib < 2)) {
      const before = gateway.rssBytes();
      for (let n = 0; n < 3; n++) await round();
      grownMib.push((gateway.rssBytes() - before) / MIB);
    }
    expect(Math.min(...grownMib)).toBeLessThan(2);
    expect(await (await post(OK)).json()).toMatchObject({ result: { status: 'not_found' } });
    expect(gateway.output()).not.toMatch(/"severity":"(ERROR|CRITICAL)"/);
  });
});
