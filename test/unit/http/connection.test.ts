// The local gateway and the companion pass the cases of connections, and their streams, timeouts and listed origins
// work in addition.
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createCompanionServer } from '../../../functions/companion/companion.ts';
import { createHttpServer } from '../../../functions/server/node-server.ts';
import { loadConfig } from '../../../shared/config/load-config.ts';
import { createServices } from '../../../shared/create-services.ts';
import { createLogger } from '../../../shared/log.ts';
import { connectionCases, readAll } from '../../cases/connection.cases.ts';
import { call } from '../../cases/jsonrpc.cases.ts';
import { type InProcessGateway, startInProcess } from '../../support/fixtures/gateway/in-process.ts';

const KEY = 'X-API-Key: dev-key';
const CALL = '{"jsonrpc":"2.0","id":1,"method":"conversation.list"}';
const TARGETS = [
  { name: '/health of the local gateway', line: 'GET /health HTTP/1.1', status: 200 },
  { name: '/jsonrpc of the local gateway', line: 'POST /jsonrpc HTTP/1.1', headers: [KEY], body: CALL, status: 200 },
  { name: '/webhook of the local gateway', line: 'POST /webhook HTTP/1.1', headers: [KEY], body: '{}', status: 400 },
  { name: '/ws of the local gateway', line: 'GET /ws HTTP/1.1', headers: [KEY], status: 426 },
  { name: 'the console of the local gateway', line: 'GET / HTTP/1.1', status: 200 },
  { name: 'no endpoint of the local gateway', line: 'GET /nothing HTTP/1.1', status: 404 },
];

let shared: Promise<InProcessGateway> | undefined;
for (const { name, ...target } of TARGETS) {
  connectionCases(name, async () => {
    shared ??= startInProcess({ GATEWAY_LIMITS: '100000/minute' });
    return { ...target, port: Number(new URL((await shared).url).port) };
  });
}
afterAll(async () => (await shared)?.close());

connectionCases('/health of the companion', async () => {
  const config = loadConfig({ GATEWAY_STORE: 'memory', GATEWAY_BUS: 'local' });
  const services = await createServices(config, { log: createLogger({ format: 'json', write() {} }) });
  const server = createCompanionServer(services, new Map());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    server.close();
    await services.close();
  };
  return { port, line: 'GET /health HTTP/1.1', status: 200, close };
});

describe('a stream', () => {
  const ORIGIN = 'https://app.example';
  let gateway: InProcessGateway;
  beforeAll(async () => {
    gateway = await startInProcess({ ALLOWED_ORIGINS: ORIGIN });
  });
  afterAll(() => gateway.close());

  const prompt = (text: string, session_id: string): string => {
    const params = { prompt: text, session_id, model: session_id === 'quick' ? 'offline/echo' : 'offline/slow' };
    const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'conversation.prompt', params });
    const head = `POST /jsonrpc HTTP/1.1\r\nHost: localhost\r\n${KEY}\r\nAccept: text/event-stream`;
    return `${head}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  };
  const open = () =>
    connect({ port: Number(new URL(gateway.url).port), host: '127.0.0.1', allowHalfOpen: true }).on('error', () => {});

  it.each([
    ['nothing', ''],
    ['half a request head', 'GET /health HTTP/1.1\r\nHost: loc'],
    ['a NUL byte', '\0'],
    ['a request that is not HTTP', 'hello\r\n\r\n'],
    ['a request for a tunnel', 'CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n'],
  ])('a stream continues to its end when its client ends its side behind %s', async (session, behind) => {
    const socket = open();
    socket.write(prompt('a', session.replaceAll(' ', '-')));
    await once(socket, 'data');
    const text = readAll(socket);
    // Written at once, so that a client that has gone, which looks the same, resets the connection.
    const written = new Promise<void>((resolve) => {
      socket.on('data', (chunk) => String(chunk).includes(': keep-alive') && resolve());
    });
    socket.end(behind);
    await written;
    await fetch(`${gateway.url}/jsonrpc`, {
      method: 'POST',
      headers: { 'x-api-key': 'dev-key' },
      body: JSON.stringify(call('conversation.cancel', { session_id: session.replaceAll(' ', '-') })),
    });
    expect(await text).not.toContain('HTTP/1.1 4');
    expect(await text).toMatch(/"TurnAborted".*"id":1\}\n\n\r\n0\r\n\r\n$/s);
  });

  it('a stream is open to pages of a listed origin', async () => {
    const socket = open();
    socket.end(prompt('a', 'quick').replace('Accept:', `Origin: ${ORIGIN}\r\nAccept:`));
    expect(await readAll(socket)).toMatch(/^HTTP\/1\.1 200 .*Access-Control-Allow-Origin: https:\/\/app\.example/s);
  });

  it('a stream that is refused for its origin leaves one line in the log, with the variable that would allow it', async () => {
    for (let n = 0; n < 3; n++) {
      await fetch(`${gateway.url}/jsonrpc`, { method: 'POST', headers: { origin: 'https://evil.example' } });
      await fetch(`${gateway.url}/health`, { headers: { origin: 'https://evil.example' } });
    }
    const lines = gateway.logged().match(/.*"origin":"https:\/\/evil\.example".*/g);
    expect(lines).toHaveLength(1);
    expect(lines?.[0]).toContain('ALLOWED_ORIGINS');
  });
});

describe('a request behind one that is still being answered', () => {
  const UPGRADE = 'Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13';
  it.each([
    [
      'for a WebSocket',
      `GET /ws HTTP/1.1\r\nHost: localhost\r\n${KEY}\r\n${UPGRADE}\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n`,
      '426',
    ],
    ['for a tunnel', 'CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n', undefined],
  ])(
    'a request %s behind one that is being answered does not take the connection away from the answer',
    async (_name, behind, status) => {
      const requested = Promise.withResolvers<() => void>();
      const server = createHttpServer((req, res) => {
        if (req.url === '/ws') res.writeHead(426, { Connection: 'close' }).end();
        else requested.resolve(() => res.end('whole'));
      });
      server.on('upgrade', (_req, socket) => socket.end('HTTP/1.1 101 Switching Protocols\r\n\r\n'));
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
      const text = readAll(socket);
      socket.write(`GET / HTTP/1.1\r\nHost: localhost\r\n\r\n${behind}`);
      const answer = await requested.promise;
      // What is behind has been read when another connection is served.
      await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/ws`);
      answer();
      const [, first, ...rest] = (await text).split('HTTP/1.1 ');
      expect(first).toMatch(/^200 OK.*whole$/s);
      expect(rest.map((one) => one.slice(0, 3))).toEqual(status === undefined ? [] : [status]);
      server.close();
    },
  );

  it('a CONNECT as the first request of a connection gets 405 and JSON', async () => {
    const server = createHttpServer(() => {});
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    socket.write('CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n');
    expect(await readAll(socket)).toMatch(/^HTTP\/1\.1 405 .*"reason":"invalid_request"/s);
    server.close();
  });
});

describe('a request that is not sent in time', () => {
  it('a request that is not sent in time after one that is still being answered ends the connection after that answer', async () => {
    const requested = Promise.withResolvers<void>();
    const server = createHttpServer(
      (_req, res) => {
        res.write('begun ');
        requested.resolve();
        server.once('clientError', () => res.end('whole'));
      },
      { times: { headersTimeout: 50, connectionsCheckingInterval: 20 } },
    );
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    const text = readAll(socket);
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTT');
    await requested.promise;
    expect(await text).toMatch(/^HTTP\/1\.1 200 .*begun .*whole\r\n0\r\n\r\n$/s);
    expect(await text).not.toContain('408');
    server.close();
  });
});
