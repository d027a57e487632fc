// Every HTTP server of the gateway, in every deployable, handles connections in the same way: data after a request does
// not disturb its response, errors of HTTP itself are answered as JSON, and on a loopback address a request for another
// host, or from another origin, is refused.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

export interface ConnectionTarget {
  readonly port: number;
  /** A request line; the request is answered at once. */
  readonly line: string;
  readonly headers?: readonly string[];
  readonly body?: string;
  /** HTTP status of the answer. */
  readonly status: number;
  close?(): Promise<void>;
}

/** All that the server writes until it ends the connection. */
export async function readAll(socket: Socket): Promise<string> {
  let text = '';
  socket.on('data', (chunk) => {
    text += String(chunk);
  });
  socket.on('error', () => {});
  if (!socket.closed) await once(socket, 'close');
  return text;
}

export function connectionCases(name: string, open: () => Promise<ConnectionTarget>): void {
  describe(`a connection to ${name}`, () => {
    let target: ConnectionTarget;
    beforeAll(async () => {
      target = await open();
    });
    afterAll(() => target.close?.());

    const host = (): string => `Host: localhost:${target.port}`;
    const request = (headers: readonly string[], line = target.line): string => {
      const body = target.body ?? '';
      const length = body === '' ? [] : [`Content-Length: ${Buffer.byteLength(body)}`];
      return `${[line, ...headers, ...(target.headers ?? []), ...length].join('\r\n')}\r\n\r\n${body}`;
    };
    const exchange = (text: string): Promise<string> => {
      const socket = connect({ port: target.port, host: '127.0.0.1', allowHalfOpen: true });
      socket.write(text);
      socket.once('end', () => socket.end());
      return readAll(socket);
    };
    const statuses = (text: string): number[] =>
      [...text.matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, code]) => Number(code));
    const bodyOf = (text: string): unknown => JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4));

    it.each([
      ['one NUL byte', '\0'],
      ['garbage', '\x16\x03\x01 not HTTP\r\n\r\n'],
      ['a request that is too large', `GET / HTTP/1.1\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`],
    ])('the answer in flight is complete before %s behind its request ends the connection', async (_name, behind) => {
      const text = await exchange(`${request([host()])}${behind}`);
      expect(statuses(text)).toEqual([target.status]);
      expect(() => text.endsWith('\r\n\r\n') || bodyOf(text)).not.toThrow();
    });

    it('a client that has ended its side of the connection is answered', async () => {
      const socket = connect({ port: target.port, host: '127.0.0.1', allowHalfOpen: true });
      socket.end(request([host()]));
      expect(statuses(await readAll(socket))).toEqual([target.status]);
    });

    it.each([
      ['no Host', []],
      ['two Hosts', ['Host: localhost', 'Host: localhost']],
      ['a Host that is none', ['Host: a b']],
    ])('a request with %s is refused with 400, in JSON', async (_name, headers) => {
      const text = await exchange(request([...headers, 'Connection: close']));
      expect(statuses(text)).toEqual([400]);
      expect(bodyOf(text)).toMatchObject({ error: { code: -32600, data: { reason: 'invalid_request' } } });
    });

    it('an HTTP/1.0 request without a Host is answered', async () => {
      const text = await exchange(request([], target.line.replace('HTTP/1.1', 'HTTP/1.0')));
      expect(statuses(text)).toEqual([target.status]);
    });

    it.each([
      ['headers that are too large', `GET / HTTP/1.1\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, 431],
      ['a header that is none', 'GET / HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n', 400],
      ['a method that is none', 'NOPE / HTTP/1.1\r\nHost: localhost\r\n\r\n', 400],
      ['two lengths', 'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n', 400],
    ])('a request with %s is refused in JSON', async (_name, text, status) => {
      const answer = await exchange(text);
      expect(statuses(answer)).toEqual([status]);
      expect(bodyOf(answer)).toMatchObject({ error: { code: -32600 } });
    });

    it.each(['localhost', 'LOCALHOST:1', '127.0.0.1', '127.0.0.1:65535', '[::1]', '[::1]:8080'])(
      'a server on a loopback address is open to the host %s',
      async (name_) => {
        const text = await exchange(request([`Host: ${name_}`, 'Connection: close']));
        expect(statuses(text)).toEqual([target.status]);
      },
    );

    it.each(['rebind.example', 'rebind.example:8080', 'localhost.rebind.example', '192.168.0.1', '0.0.0.0', '[::2]'])(
      'a server on a loopback address is closed to the host %s',
      async (name_) => {
        const text = await exchange(request([`Host: ${name_}`, `Origin: http://${name_}`, 'Connection: close']));
        expect(statuses(text)).toEqual([403]);
        expect(bodyOf(text)).toMatchObject({ error: { code: 403, data: { reason: 'forbidden' } } });
      },
    );

    it('a server on a loopback address is closed to another host in the target itself', async () => {
      const line = target.line.replace(' /', ' http://rebind.example/');
      expect(statuses(await exchange(request([host(), 'Connection: close'], line)))).toEqual([403]);
    });

    it.each(['https://elsewhere.example', 'null', 'http://localhost:1', 'http://localhost.elsewhere.example'])(
      'a server on a loopback address refuses pages of %s, and logs the variable that allows them',
      async (origin) => {
        const text = await exchange(request([host(), `Origin: ${origin}`, 'Connection: close']));
        expect(statuses(text)).toEqual([403]);
        expect(bodyOf(text)).toMatchObject({ error: { message: expect.stringContaining('ALLOWED_ORIGINS') } });
      },
    );

    it.each(['http://localhost:PORT', 'http://127.0.0.1:PORT', 'http://[::1]:PORT'])(
      'a server on a loopback address is open to its own pages: %s',
      async (origin) => {
        const own = `Origin: ${origin.replace('PORT', String(target.port))}`;
        const text = await exchange(request([host(), own, 'Connection: close']));
        expect(statuses(text)).toEqual([target.status]);
      },
    );
  });
}
