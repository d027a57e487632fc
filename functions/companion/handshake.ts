// Decides from the upgrade request alone (path, origin, credentials) whether a WebSocket may open. A rejection is an
// ordinary HTTP response in JSON.
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
 * Authenticates an upgrade request by its key header, else by its ticket. Throws RpcError `not_found`, `forbidden`
 * (host, origin), `unauthorized`, `invalid_request`, `unavailable`.
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
      // A web page cannot send this header, so the origin need not be checked; except for the local key, which is
      // public.
      if (caller.digest !== undefined && LOCAL_KEY_DIGEST.equals(caller.digest)) parts.guard.checkOrigin(req);
      return caller;
    } catch (error) {
      // If the request also has a ticket, an invalid key or unavailable keys are ignored, and the ticket is checked
      // next.
      const isRefused = error instanceof RpcError && ['unauthorized', 'unavailable'].includes(error.reason);
      if (!isRefused || ticket === undefined) throw error;
    }
  }
  // Browsers set the Origin header, so a page cannot forge it. A page of another site must not use the ticket or the
  // network of its visitor.
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
    throw new RpcError('invalid_request', { message: `send one ticket in addition to the subprotocol ${SUBPROTOCOL}` });
  }
  return tickets[0]?.slice(TICKET_PREFIX.length);
}

/** Responds to `GET /ws` without an upgrade. Throws RpcError `method_not_allowed` for other HTTP methods. */
export const requireUpgrade: HttpHandler = (req, res) => {
  if (req.method !== 'GET' && req.method !== 'HEAD') {
    throw new RpcError('method_not_allowed', { data: { allow: 'GET, HEAD' } });
  }
  const error = new RpcError('invalid_request', { message: 'open a WebSocket here' });
  sendJson(res, 426, { error: error.toWire(requestIdOf(req)) }, { Upgrade: 'websocket', Connection: 'Upgrade, close' });
};
