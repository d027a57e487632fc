// What every node:http server of ours has in common: limits on headers and time, and JSON even for what is not HTTP.
import {
  createServer,
  type IncomingMessage,
  maxHeaderSize,
  type RequestListener,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { RpcError } from '../shared/errors.ts';
import { requestIdOf, sendError } from './http.ts';

const SERVER_OPTIONS: ServerOptions = {
  maxHeaderSize: Math.min(16_384, maxHeaderSize),
  // A client has this long to send its headers, and its whole request: closes slow-loris. Responses may stream for longer.
  headersTimeout: 15_000,
  requestTimeout: 60_000,
  connectionsCheckingInterval: 5000,
  // Longer than Google's front end keeps an idle connection (600 s), so that it never reuses one that is being closed here.
  keepAliveTimeout: 620_000,
};

/** `closeSilent` ends connections that have sent nothing yet, as browsers open them ahead: node takes them for busy ones. */
export type HttpServer = Server & { closeSilent(): void };

/**
 * A server, not listening yet. Upgrades to WebSocket go to a listener of `upgrade`, where there is one; any other protocol that a client
 * offers (`h2c`, as Java's own client does) is not taken up and its request answered as it is (RFC 9110, 7.8).
 */
export function createHttpServer(listener: RequestListener): HttpServer {
  const sockets = new Set<Socket>();
  const server: Server = createServer(
    {
      ...SERVER_OPTIONS,
      shouldUpgradeCallback: ({ headers }) =>
        headers.upgrade?.toLowerCase() === 'websocket' && server.listenerCount('upgrade') > 0,
    },
    listener,
  );
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.on('clientError', answerBrokenRequest);
  server.on('checkContinue', (req: IncomingMessage, res: ServerResponse) => {
    // `Expect: 100-continue`: the client is told to send its body when the handler starts to read it, so after authentication.
    req.once('resume', () => {
      if (!res.headersSent) res.writeContinue();
    });
    listener(req, res);
  });
  server.on('checkExpectation', (req: IncomingMessage, res: ServerResponse) => {
    const message = 'Expect: only 100-continue is understood';
    sendError(res, new RpcError('invalid_request', { message }), requestIdOf(req));
  });
  const closeSilent = (): void => {
    for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy();
  };
  return Object.assign(server, { closeSilent });
}

/** Listener for `clientError`: what is not HTTP at all never becomes a request; it gets JSON too, then the connection ends. */
function answerBrokenRequest(error: Error, socket: Duplex): void {
  if (!socket.writable || ('code' in error && error.code === 'ECONNRESET')) {
    socket.destroy();
    return;
  }
  const [status, phrase, message] = BROKEN.get('code' in error ? error.code : '') ?? [
    400,
    'Bad Request',
    'the request is not valid HTTP',
  ];
  const wire = new RpcError('invalid_request', { message }).toWire(`req_${crypto.randomUUID().replaceAll('-', '')}`);
  const body = JSON.stringify({ jsonrpc: '2.0', error: wire, id: null });
  socket.end(
    `HTTP/1.1 ${status} ${phrase}\r\nContent-Type: application/json; charset=utf-8\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}

const BROKEN: ReadonlyMap<unknown, readonly [number, string, string]> = new Map([
  ['HPE_HEADER_OVERFLOW', [431, 'Request Header Fields Too Large', 'the request headers are too large']],
  ['ERR_HTTP_REQUEST_TIMEOUT', [408, 'Request Timeout', 'the request was not sent in time']],
]);
