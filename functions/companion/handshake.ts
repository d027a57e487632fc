// Decides from the upgrade request alone whether a socket may open: path, origin, credentials. A refusal is an ordinary
// HTTP answer in JSON.
import { hash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { hasKey } from '../../shared/auth/authenticate.ts';
import type { Caller } from '../../shared/auth/keys/keys.ts';
import { redeemTicket } from '../../shared/auth/tickets.ts';
import type { WrongCredentials } from '../../shared/auth/wrong-credentials.ts';
import type { WallClock } from '../../shared/clock.ts';
import { RpcError } from '../../shared/errors.ts';
import type { Gateway } from '../../shared/gateway.ts';
import { LOCAL_KEY, PATHS, SUBPROTOCOL, TICKET_PREFIX } from '../../shared/protocol.ts';
import type { Store } from '../../shared/store/store.ts';
import { type HttpHandler, pathOf, requestIdOf, sendJson } from '../server/http.ts';
import { forbiddenOrigin, type RequestGuard } from '../server/request-guard.ts';

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

/** `GET /ws` without an upgrade. Throws RpcError `method_not_allowed` for every other verb. */
export const requireUpgrade: HttpHandler = (req, res) => {
  if (req.method !== 'GET' && req.method !== 'HEAD') {
    throw new RpcError('method_not_allowed', { data: { allow: 'GET, HEAD' } });
  }
  const error = new RpcError('invalid_request', { message: 'open a WebSocket here' });
  sendJson(res, 426, { error: error.toWire(requestIdOf(req)) }, { Upgrade: 'websocket', Connection: 'Upgrade, close' });
};
