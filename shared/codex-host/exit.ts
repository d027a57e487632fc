// The one exit of an app-server's network namespace: an HTTP server on its port there, which passes every request to
// the listener of the session and its answer back, byte for byte. It decides nothing: the other side of the port does.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Server } from 'node:net';
import type { ProviderAnswer, ProviderListener, ProviderRequest } from './codex-host.ts';

/** The port of each app-server: their namespaces are their own. */
export const EXIT_PORT = 8080;
/** One for each turn on one app-server, and as many again: Codex opens a new connection for each turn. */
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
    // The end of a connection in the middle of a body; the answer ends with it.
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
