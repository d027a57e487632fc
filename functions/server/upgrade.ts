// Rejects upgrade requests with ordinary HTTP responses in JSON.
import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import type { RpcError } from '../../shared/errors.ts';
import { HEADERS } from '../../shared/protocol.ts';
import { errorHeaders } from './http.ts';

/** The socket of a client that does not read the response is destroyed after this time. */
const REFUSAL_MS = 2_000;

/** Responds to an upgrade request with an error and ends its socket. `status` replaces the HTTP status of the error. */
export function refuseUpgrade(
  stream: Duplex,
  error: RpcError,
  requestId: string,
  status: number = error.httpStatus,
): void {
  if (!stream.writable) {
    stream.destroy();
    return;
  }
  const body = JSON.stringify({ error: error.toWire(requestId) });
  const headers = {
    'Content-Type': 'application/json; charset=utf-8',
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
    [HEADERS.requestId]: requestId,
    Connection: 'close',
    ...(status === 426 ? { Upgrade: 'websocket', 'Sec-WebSocket-Version': '13' } : {}),
    ...errorHeaders(error),
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${String(value)}\r\n`);
  const timer = setTimeout(() => stream.destroy(), REFUSAL_MS);
  stream.once('close', () => clearTimeout(timer));
  stream.once('finish', () => stream.destroy());
  stream.end(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Error'}\r\n${lines.join('')}\r\n${body}`);
}
