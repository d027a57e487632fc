// A program that runs the fake provider behind TLS, 50 ms of round trip away. It keeps idle connections as long as the
// client does. Its control server is on another port: `/` returns the address and the connections so far, `/close-idle`
// closes the idle connections, `/stale` makes it close the connection that gets the next request, before any byte of an
// answer.
import { readFileSync } from 'node:fs';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import { startDelayProxy } from '../../support/fixtures/network/delay-proxy.ts';

const ROUND_TRIP_MS = 50;

const { CERT_FILE = '', KEY_FILE = '' } = process.env;
const provider = await startModelProvider();
const counted = { opened: 0, resumed: 0 };
let isNextStale = false;

const server = https.createServer({ cert: readFileSync(CERT_FILE), key: readFileSync(KEY_FILE) }, forward);
server.keepAliveTimeout = 0;
server.on('secureConnection', (socket: TLSSocket) => {
  counted.opened++;
  if (socket.isSessionReused()) counted.resumed++;
});
const proxy = await startDelayProxy(`127.0.0.1:${await listen(server)}`, ROUND_TRIP_MS);
const url = `https://localhost:${new URL(`http://${proxy.host}`).port}`;

const control = http.createServer((request, response) => {
  if (request.url === '/close-idle') server.closeIdleConnections();
  if (request.url === '/stale') isNextStale = true;
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ url, ...counted }));
});
console.log(`tls provider ready at http://127.0.0.1:${await listen(control)}`);

function forward(request: IncomingMessage, response: ServerResponse): void {
  if (isNextStale) {
    isNextStale = false;
    request.socket.destroy();
    return;
  }
  const { method, headers } = request;
  const upstream = http.request(`${provider.url}${request.url}`, { method, headers }, (answer) => {
    const { connection: _, 'keep-alive': __, ...kept } = answer.headers;
    response.writeHead(answer.statusCode ?? 502, kept);
    answer.pipe(response);
  });
  upstream.on('error', () => response.destroy());
  request.pipe(upstream);
}

async function listen(listener: http.Server | https.Server): Promise<number> {
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  return (listener.address() as AddressInfo).port;
}
