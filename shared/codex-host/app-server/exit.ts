// The only network access of an app-server: an HTTP server on a loopback port in its network namespace. It passes every
// request to the listener of the session, and the response back, byte for byte. It checks nothing; the gateway side of
// the port does.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Server } from 'node:net';
import type { ProviderAnswer, ProviderListener, ProviderRequest } from '../codex-host.ts';

/** The port is the same for all app-servers, because each has its own network namespace. */
export const EXIT_PORT = 8080;
/** Codex opens a new connection for each turn, so this is a multiple of the turns that one app-server runs. */
const CONNECTIONS_MAX = 64;
const NO_LISTENER = 503;

export interface Exit {
  onRequest(listener: ProviderListener): void;
  close(): void;
}

/** `listener` accepts the connections. */
export function openExit(listener: Server): Exit {
  let current: ProviderListener | undefined;
  const http = createServer((incoming, response) => {
    // A connection that ends during the body ends the response, too.
    incoming.on('error', () => {});
    response.on('error', () => {});
    if (current === undefined) response.writeHead(NO_LISTENER).end();
    else current(toRequest(incoming), toAnswer(response));
  });
  listener.maxConnections = CONNECTIONS_MAX;
  listener.on('connection', (socket) => http.emit('connection', socket));
  listener.on('error', () => {});
  return {
    onRequest(next) {
      current = next;
    },
    close() {
      listener.close();
      http.closeAllConnections();
    },
  };
}

function toRequest(incoming: IncomingMessage): ProviderRequest {
  const { method = '', url = '', headersDistinct } = incoming;
  const headers = Object.entries(headersDistinct).map(([name, values = []]) => [name, values] as const);
  return { method, path: url, headers: Object.fromEntries(headers), body: incoming };
}

function toAnswer(response: ServerResponse): ProviderAnswer {
  return {
    body: response,
    writeHead(status, headers) {
      response.writeHead(
        status,
        Object.entries(headers).flatMap(([name, values]) => values.flatMap((value) => [name, value])),
      );
      response.flushHeaders();
    },
  };
}
