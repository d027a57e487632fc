// The node:http server of all deployables: limits of header size and time, checks of the request headers, and JSON
// errors even for invalid HTTP. Invalid bytes after a request do not affect its response.
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
import { RpcError, toRpcError } from '../../shared/errors.ts';
import { HEADERS } from '../../shared/protocol.ts';
import type { Tracer } from '../../shared/telemetry/tracer.ts';
import { requestIdOf, sendJson } from './http.ts';
import type { RequestGuard } from './request-guard.ts';
import { traceRequests } from './request-span.ts';

const SERVER_OPTIONS: ServerOptions = {
  maxHeaderSize: Math.min(16_384, maxHeaderSize),
  // Deadlines for receiving the headers and the whole request, against slow-loris attacks. Responses may take longer.
  headersTimeout: 15_000,
  requestTimeout: 60_000,
  connectionsCheckingInterval: 5000,
  // Longer than Google's front end keeps an idle connection (600 s), so that it never sends a request on a connection
  // that this server is closing.
  keepAliveTimeout: 620_000,
  // The request guard checks the Host header and responds with JSON; node would send an empty body.
  requireHostHeader: false,
};

/** How often a client that has ended its side and still waits for its response is probed. */
const HALF_CLOSED_PROBE_MS = 1_000;

/**
 * `closeSilent` closes connections on which the client has sent nothing yet. Browsers open such connections in advance,
 * and node does not count them as idle.
 */
export type HttpServer = Server & { closeSilent(): void };

export interface HttpServerOptions {
  readonly guard?: RequestGuard;
  readonly tracer?: Tracer | undefined;
  /** Shorter times for tests. */
  readonly times?: Pick<ServerOptions, 'headersTimeout' | 'connectionsCheckingInterval'>;
}

/**
 * Creates a server that does not listen yet. WebSocket upgrades are passed to the listener of `upgrade`, if there is
 * one. The offer of another protocol (Java's client offers `h2c`) is ignored, and the request is answered as HTTP/1.1
 * (RFC 9110, 7.8). An upgrade is also ignored while a previous request on the connection is being answered, because it
 * would take over the connection from that response.
 */
export function createHttpServer(
  listener: RequestListener,
  { guard, times, tracer }: HttpServerOptions = {},
): HttpServer {
  const sockets = new Set<Socket>();
  const open = new WeakMap<Duplex, OpenResponses>();
  const server: Server = createServer({
    ...SERVER_OPTIONS,
    ...times,
    shouldUpgradeCallback: ({ headers, socket }) =>
      headers.upgrade?.toLowerCase() === 'websocket' && server.listenerCount('upgrade') > 0 && !isAnswering(socket),
  });
  // A client may end its side after the request and still read the response (`nc -N`, HTTP/1.0 clients).
  Reflect.set(server, 'httpAllowHalfOpen', true);
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });

  /**
   * Returns the open responses of a connection. The set is created at the first request, because a WebSocket has no
   * responses.
   */
  const responsesOn = (socket: Socket): Set<ServerResponse> => {
    const known = open.get(socket);
    if (known !== undefined) return known.responses;
    const responses = new Set<ServerResponse>();
    open.set(socket, { responses, isBroken: false });
    socket.once('end', () => probe(responses));
    return responses;
  };
  const isAnswering = (socket: Socket): boolean => (open.get(socket)?.responses.size ?? 0) > 0;
  const admit = (req: IncomingMessage, res: ServerResponse): boolean => {
    const responses = responsesOn(req.socket);
    responses.add(res);
    res.once('close', () => responses.delete(res));
    try {
      guard?.checkHost(req);
      guard?.checkOrigin(req);
      return true;
    } catch (error) {
      refuse(req, res, toRpcError(error));
      return false;
    }
  };
  const answer = traceRequests(listener, tracer);
  server.on('request', (req, res) => {
    if (admit(req, res)) return answer(req, res);
  });
  server.on('clientError', (error, socket) => endBroken(error, socket, open.get(socket)));
  // Without a listener, node would close the connection with its pending responses.
  server.on('connect', (_req, socket) => {
    socket.on('error', () => {});
    endBroken(Object.assign(new Error('CONNECT'), { code: 'CONNECT' }), socket, open.get(socket));
  });
  server.on('checkContinue', (req: IncomingMessage, res: ServerResponse) => {
    // `Expect: 100-continue`: `100 Continue` is sent when the handler starts to read the body, so after authentication.
    req.once('resume', () => {
      if (!res.headersSent) res.writeContinue();
    });
    if (admit(req, res)) answer(req, res);
  });
  server.on('checkExpectation', (req: IncomingMessage, res: ServerResponse) => {
    const message = 'Expect: only 100-continue is supported';
    if (admit(req, res)) refuse(req, res, new RpcError('invalid_request', { message }));
  });
  const closeSilent = (): void => {
    for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy();
  };
  return Object.assign(server, { closeSilent });
}

/** The open responses of a connection. */
interface OpenResponses {
  readonly responses: Set<ServerResponse>;
  /** Invalid bytes were received: the connection is closed after the pending responses. */
  isBroken: boolean;
}

function refuse(req: IncomingMessage, res: ServerResponse, error: RpcError): void {
  const requestId = requestIdOf(req);
  const body = { jsonrpc: '2.0', error: error.toWire(requestId), id: null };
  sendJson(res, error.httpStatus, body, { [HEADERS.requestId]: requestId, Vary: 'Origin' });
}

/**
 * Called when the client has ended its side. A client that still reads must be answered; a client that has disconnected
 * looks the same, but its machine resets the connection when data arrives. So interim responses (100 Continue), which
 * clients ignore, are sent repeatedly: they end the long calls of disconnected clients.
 */
function probe(responses: ReadonlySet<ServerResponse>): void {
  const timer = setInterval(() => {
    if (responses.size === 0) clearInterval(timer);
    for (const res of responses) {
      if (!res.headersSent && res.req.httpVersion === '1.1') res.writeContinue();
    }
  }, HALF_CLOSED_PROBE_MS);
  timer.unref();
}

/** Handles invalid HTTP, which never becomes a request: responds with JSON, then ends the connection. */
function endBroken(error: Error, socket: Duplex, open: OpenResponses | undefined): void {
  const code = 'code' in error ? String(error.code) : '';
  if (!socket.writable || !(code.startsWith('HPE_') || BROKEN.has(code))) {
    socket.destroy();
    return;
  }
  if (open?.isBroken === true) return;
  if (open !== undefined) open.isBroken = true;
  const due = [...(open?.responses ?? [])].filter(isStillDue);
  if (due.length > 0) {
    let left = due.length;
    const onClose = (): void => {
      if (--left === 0) endSoon(socket);
    };
    for (const res of due) res.once('close', onClose);
    return;
  }
  const [status, phrase, message] = BROKEN.get(code) ?? [400, 'Bad Request', 'the request is not valid HTTP'];
  const wire = new RpcError('invalid_request', { message }).toWire(`req_${crypto.randomUUID().replaceAll('-', '')}`);
  const body = JSON.stringify({ jsonrpc: '2.0', error: wire, id: null });
  socket.write(
    `HTTP/1.1 ${status} ${phrase}\r\nContent-Type: application/json; charset=utf-8\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
  endSoon(socket);
}

/**
 * Whether a response is still to be sent although the connection is broken: its request was received completely, or the
 * response has started.
 */
function isStillDue(res: ServerResponse): boolean {
  return res.req.complete || res.headersSent;
}

/**
 * How long the client may read the response before the socket is destroyed. Destroying it earlier would reset the
 * connection if bytes arrive, and the client could lose the response.
 */
const LINGER_MS = 1_000;

function endSoon(socket: Duplex): void {
  if (socket.destroyed) return;
  socket.end();
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  timer.unref();
  socket.once('close', () => clearTimeout(timer));
}

const BROKEN: ReadonlyMap<string, readonly [number, string, string]> = new Map([
  ['HPE_HEADER_OVERFLOW', [431, 'Request Header Fields Too Large', 'the request headers are too large']],
  ['CONNECT', [405, 'Method Not Allowed', 'CONNECT is not supported: this is not a proxy']],
  ['HPE_CHUNK_EXTENSIONS_OVERFLOW', [413, 'Payload Too Large', 'the chunk extensions are too large']],
  ['ERR_HTTP_REQUEST_TIMEOUT', [408, 'Request Timeout', 'the request was not sent in time']],
]);
