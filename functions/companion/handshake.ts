// Decides from the upgrade request alone whether a socket may open: path, origin, credentials. A refusal is an ordinary
// HTTP answer in JSON.
import { hash } from 'node:crypto';
import { type IncomingMessage, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { hasKey } from '../../shared/auth/authenticate.ts';
import type { Caller } from '../../shared/auth/keys/keys.ts';
import { redeemTicket } from '../../shared/auth/tickets.ts';
import type { WrongCredentials } from '../../shared/auth/wrong-credentials.ts';
import type { WallClock } from '../../shared/clock.ts';
import { RpcError } from '../../shared/errors.ts';
import type { Gateway } from '../../shared/gateway.ts';
import { HEADERS, LOCAL_KEY, PATHS, SUBPROTOCOL, TICKET_PREFIX } from '../../shared/protocol.ts';
import type { Store } from '../../shared/store/store.ts';
import { errorHeaders, type HttpHandler, pathOf, requestIdOf, sendJson } from '../server/http.ts';
import { forbiddenOrigin, type RequestGuard } from '../server/request-guard.ts';

/** A client that does not read the refusal does not keep its socket. */
const REFUSAL_MS = 2_000;

export interface HandshakeDeps {
  readonly gateway: Gateway;
  readonly store: Store;
  readonly clock: WallClock;
  readonly wrongCredentials: WrongCredentials;
  readonly guard: RequestGuard;
}

const LOCAL_KEY_DIGEST = hash('sha256', LOCAL_KEY, 'buffer');

/**
 * The caller behind an upgrade request: by key header, else by ticket. Throws RpcError `not_found`, `forbidden` (host,
 * origin), `unauthorized`, `invalid_request`, `unavailable`.
 */
export async function admitUpgrade(req: IncomingMessage, parts: HandshakeDeps, signal: AbortSignal): Promise<Caller> {
  parts.guard.checkHost(req);
  if (pathOf(req) !== PATHS.socket) {
    throw new RpcError('not_found', { message: `Not found: the WebSocket is at ${PATHS.socket}` });
  }
  const ticket = ticketOf(req);
  if (ticket === undefined || hasKey(req.headers)) {
    try {
      const call = { client: req, signal, isOptional: ticket !== undefined };
      const caller = await parts.gateway.authenticate(req.headers, call);
      // A page cannot send the header, so its origin adds nothing to the identity of the caller; but the
      // local key is public.
      if (caller.digest !== undefined && LOCAL_KEY_DIGEST.equals(caller.digest)) parts.guard.checkOrigin(req);
      return caller;
    } catch (error) {
      // Beside a ticket the key need not be valid, and keys need not be available: the ticket is checked next.
      const isRefused = error instanceof RpcError && ['unauthorized', 'unavailable'].includes(error.reason);
      if (!isRefused || ticket === undefined) throw error;
    }
  }
  // A page sends its origin and cannot lie about it: one of another site must not use its visitor's ticket or network.
  if (!parts.guard.mayConnect(req)) throw forbiddenOrigin(req.headers.origin ?? '');
  return parts.wrongCredentials.check(req, async () =>
    parts.gateway.recognize(await redeemTicket(parts, ticket, signal)),
  );
}

function ticketOf(req: IncomingMessage): string | undefined {
  const offered = (req.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
  const tickets = offered.filter((name) => name.startsWith(TICKET_PREFIX));
  if (tickets.length === 0) return undefined;
  if (tickets.length > 1 || !offered.includes(SUBPROTOCOL)) {
    throw new RpcError('invalid_request', { message: `offer one ticket, beside the subprotocol ${SUBPROTOCOL}` });
  }
  return tickets[0]?.slice(TICKET_PREFIX.length);
}

/** Answers an upgrade request with an error and ends its socket. `status` where the error's own does not fit. */
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

/** `GET /ws` without an upgrade. Throws RpcError `method_not_allowed` for every other verb. */
export const requireUpgrade: HttpHandler = (req, res) => {
  if (req.method !== 'GET' && req.method !== 'HEAD') {
    throw new RpcError('method_not_allowed', { data: { allow: 'GET, HEAD' } });
  }
  const error = new RpcError('invalid_request', { message: 'open a WebSocket here' });
  sendJson(res, 426, { error: error.toWire(requestIdOf(req)) }, { Upgrade: 'websocket', Connection: 'Upgrade, close' });
};
