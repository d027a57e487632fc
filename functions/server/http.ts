// HTTP helpers of all deployables: reading bodies with a size limit, JSON responses, request ids. They use only
// node:http, so that the same handlers run under functions-framework and in the local server.
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { RpcError } from '../../shared/errors.ts';
import { HEADERS, PATHS } from '../../shared/protocol.ts';
import type { RateDecision } from '../../shared/rate-limit/limiter.ts';
import { overloaded } from '../../shared/rpc/in-flight.ts';
import { BODY_BYTES_MAX } from '../../shared/rpc/parse.ts';
import { endWith } from './slow-reader.ts';

export type HttpHandler = (req: IncomingMessage, res: ServerResponse) => void | Promise<void>;

/**
 * After an error, at most this much of an unread body is read and discarded, so that the client can read the response;
 * then the socket is closed.
 */
const DRAIN_BYTES_MAX = 8 << 20;
const DRAIN_MS_MAX = 2_000;

/** The caller's `X-Request-Id` when it is valid, else a new one. */
export function requestIdOf(req: IncomingMessage): string {
  const given = req.headers['x-request-id'];
  return typeof given === 'string' && /^[\w.-]{1,64}$/.test(given) ? given : `req_${randomUUID().replaceAll('-', '')}`;
}

/** Path without query and without a trailing slash (`/` stays `/`). */
export function pathOf(req: IncomingMessage): string {
  const url = req.url ?? '/';
  const mark = url.indexOf('?');
  const target = mark === -1 ? url : url.slice(0, mark);
  // A request from a proxy may have an absolute target (RFC 9112, 3.2.2).
  const path = target.startsWith('/') ? target : target.replace(/^https?:\/\/[^/]*/i, '') || '/';
  return path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path;
}

const HOST = /^[\w.:[\]-]{1,255}$/;

/** URL of this server's WebSocket, with the host name of the request; undefined without a Host header. */
export function socketUrlOf({ headers }: IncomingMessage): string | undefined {
  const { host } = headers;
  if (host === undefined || !HOST.test(host)) return undefined;
  // Each proxy appends its own value, so the first one is the scheme of the caller.
  const [scheme] = String(headers['x-forwarded-proto'] ?? '').split(',', 1);
  return `${scheme?.trim().toLowerCase() === 'https' ? 'wss' : 'ws'}://${host}${PATHS.socket}`;
}

/** Query parameters; never used for credentials. */
export function queryOf(req: IncomingMessage): URLSearchParams {
  const url = req.url ?? '/';
  const mark = url.indexOf('?');
  return new URLSearchParams(mark === -1 ? '' : url.slice(mark + 1));
}

/**
 * Reads a body of at most `maxBytes`. Throws RpcError `payload_too_large`; `unsupported_media_type` for any
 * Content-Encoding but identity, because compressed bodies can expand (200 KB of gzip to 200 MB); `cancelled` when the
 * client disconnects; `unavailable` when `hold`, which is called before bytes are kept, returns false.
 */
export function readBody(
  req: IncomingMessage,
  maxBytes = BODY_BYTES_MAX,
  hold: (bytes: number) => boolean = () => true,
): Promise<Uint8Array> {
  const encoding = req.headers['content-encoding'];
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    return Promise.reject(
      new RpcError('unsupported_media_type', { data: { detail: 'send the body without Content-Encoding' } }),
    );
  }
  const tooLarge = (): RpcError => new RpcError('payload_too_large', { data: { limit_bytes: maxBytes } });
  if (Number(req.headers['content-length'] ?? 0) > maxBytes) return Promise.reject(tooLarge());
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const onData = (chunk: Buffer): void => {
      size += chunk.length;
      if (size > maxBytes) {
        stop();
        req.pause();
        reject(tooLarge());
      } else if (!hold(chunk.length)) {
        stop();
        req.pause();
        reject(overloaded());
      } else chunks.push(chunk);
    };
    const onEnd = (): void => {
      stop();
      resolve(chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks, size));
    };
    const onClose = (): void => {
      stop();
      reject(new RpcError('cancelled', { message: 'the client disconnected while sending its body' }));
    };
    const stop = (): void => {
      req.off('data', onData).off('end', onEnd).off('close', onClose).off('error', onClose);
    };
    req.on('data', onData).on('end', onEnd).on('close', onClose).on('error', onClose);
  });
}

/**
 * Sends JSON. If the body of the request was not read completely, the rest is read and discarded within bounds, so that
 * a client that is still sending can read the response. Closing the connection immediately would reset it.
 */
export function sendJson(res: ServerResponse, status: number, body: unknown, headers: OutgoingHttpHeaders = {}): void {
  sendJsonText(res, status, JSON.stringify(body), headers);
}

/** Like `sendJson`, for a body that is already JSON text. */
export function sendJsonText(
  res: ServerResponse,
  status: number,
  text: string,
  headers: OutgoingHttpHeaders = {},
): void {
  if (res.headersSent || res.destroyed) return;
  const unread = !res.req.complete;
  res.writeHead(status, {
    'Content-Type': 'application/json; charset=utf-8',
    'Content-Length': Buffer.byteLength(text),
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
    ...headers,
  });
  void endWith(res, text);
  if (unread) drain(res);
}

/** Sends `204 No Content`. */
export function sendNothing(res: ServerResponse, headers: OutgoingHttpHeaders = {}): void {
  if (!res.headersSent) res.writeHead(204, headers).end();
}

/** Sends an error of the table outside JSON-RPC (`/webhook`, `/health`): `{"error": {code, message, data}}`. */
export function sendError(
  res: ServerResponse,
  error: RpcError,
  requestId: string,
  headers: OutgoingHttpHeaders = {},
): void {
  sendJson(res, error.httpStatus, { error: error.toWire(requestId) }, { ...errorHeaders(error), ...headers });
}

/** `Retry-After` in whole seconds where the error has it, `WWW-Authenticate` for 401, `Allow` for 405. */
export function errorHeaders(error: RpcError): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {};
  if (error.reason === 'rate_limited' || error.reason === 'unavailable') {
    headers[HEADERS.retryAfter] = Math.max(1, Math.ceil((error.retryAfterMs ?? 1_000) / 1_000));
  }
  if (error.reason === 'unauthorized') headers['WWW-Authenticate'] = 'Bearer realm="codex-gateway"';
  if (error.reason === 'method_not_allowed' && typeof error.data.allow === 'string') headers.Allow = error.data.allow;
  return headers;
}

/** The `X-RateLimit-*` headers; Reset is in epoch seconds. */
export function rateHeaders(decision: RateDecision | undefined): OutgoingHttpHeaders {
  if (decision === undefined || decision.outcome === 'unavailable' || decision.outcome === 'revoked') return {};
  return {
    [HEADERS.rateLimit]: decision.limit,
    [HEADERS.rateRemaining]: decision.remaining,
    [HEADERS.rateReset]: Math.ceil(decision.resetAtMs / 1_000),
  };
}

function drain(res: ServerResponse): void {
  const { req } = res;
  let discardedBytes = 0;
  const closeSocket = (): void => {
    clearTimeout(timer);
    req.socket.destroy();
  };
  const timer = setTimeout(closeSocket, DRAIN_MS_MAX);
  timer.unref();
  req.on('data', (chunk: Buffer) => {
    discardedBytes += chunk.length;
    if (discardedBytes > DRAIN_BYTES_MAX) closeSocket();
  });
  req.once('close', () => clearTimeout(timer));
  req.resume();
}
