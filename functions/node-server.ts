// What every node:http server of ours has in common: limits on headers and time, and JSON even for what is not HTTP.
import { maxHeaderSize, type ServerOptions } from 'node:http';
import type { Duplex } from 'node:stream';
import { RpcError } from '../shared/errors.ts';

/** Options of `http.createServer`. */
export const SERVER_OPTIONS: ServerOptions = {
  maxHeaderSize: Math.min(16_384, maxHeaderSize),
  // A client has this long to send its headers, and its whole request: closes slow-loris. Responses may stream for longer.
  headersTimeout: 15_000,
  requestTimeout: 60_000,
  connectionsCheckingInterval: 5000,
  // Longer than Google's front end keeps an idle connection (600 s), so that it never reuses one that is being closed here.
  keepAliveTimeout: 620_000,
};

/** Listener for `clientError`: what is not HTTP at all never becomes a request; it gets JSON too, then the connection ends. */
export function answerBrokenRequest(error: Error, socket: Duplex): void {
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
