// Rejects requests by their Host and Origin headers, on every endpoint. Any web page that the user opens can reach a
// gateway on a loopback address: by a DNS name that resolves to 127.0.0.1 (DNS rebinding), or by requests to localhost.
// So on such an address, `Host` must be a name of this machine, and `Origin` must be listed or the gateway's own.
import type { IncomingMessage } from 'node:http';
import type { Origins } from '../../shared/auth/origins.ts';
import { isLoopback } from '../../shared/config/values/loopback.ts';
import { RpcError } from '../../shared/errors.ts';

export interface RequestGuard {
  /**
   * Throws RpcError `invalid_request` for a missing, repeated or malformed Host header. On a loopback address, throws
   * `forbidden` for the name of another machine.
   */
  checkHost(req: IncomingMessage): void;
  /** On a loopback address, throws RpcError `forbidden` for an origin that is neither listed nor the gateway's own. */
  checkOrigin(req: IncomingMessage): void;
  /**
   * Whether a page may open a WebSocket with a ticket: its origin is listed or, on a loopback address, the gateway's
   * own.
   */
  mayConnect(req: IncomingMessage): boolean;
}

export interface GuardOptions {
  /** Address on which the server listens; undefined: every interface. */
  readonly host: string | undefined;
  readonly origins: Origins;
}

/** A host name, an IPv4 address or an IPv6 address in brackets, and a port (RFC 9110, 7.2). */
const HOST = /^(\[[\da-f:.%]{2,64}\]|[\w.~!$&'()*+,;=%-]*)(?::(\d{0,5}))?$/i;
const ABSOLUTE = /^https?:\/\/(?:[^/?#]*@)?([^/?#]*)/i;
const LOOPBACK_NAMES = ['localhost', '127.0.0.1', '[::1]'];

export function createRequestGuard({ host, origins }: GuardOptions): RequestGuard {
  const isLocal = host !== undefined && isLoopback(host);
  const names = new Set([...LOOPBACK_NAMES, ...(isLocal ? [toName(host)] : [])]);

  function isOwn(origin: string, { headers, socket }: IncomingMessage): boolean {
    const own = headers.host?.toLowerCase();
    if (own !== undefined && (origin === `http://${own}` || origin === `https://${own}`)) return true;
    if (!isLocal || !URL.canParse(origin)) return false;
    const { protocol, hostname, port } = new URL(origin);
    return protocol === 'http:' && names.has(hostname) && Number(port || 80) === socket.localPort;
  }

  return {
    checkHost(req) {
      const name = hostNameOf(req);
      // HTTP/1.0 needs no Host header, and no browser uses it.
      if (!isLocal || name === undefined || names.has(name)) return;
      origins.refusedHost(name);
      throw new RpcError('forbidden', {
        message: 'Forbidden: this gateway accepts only loopback hosts: call it as localhost, or set HOST',
        data: { host: name },
      });
    },
    checkOrigin(req) {
      const { origin } = req.headers;
      if (origin === undefined || origins.has(origin) || isOwn(origin, req)) return;
      // On other addresses, CORS decides what a page may read, and its API key decides what it may do.
      origins.refused(origin);
      if (isLocal) throw forbiddenOrigin(origin);
    },
    mayConnect(req) {
      const { origin } = req.headers;
      if (origin === undefined || origins.has(origin) || (isLocal && isOwn(origin, req))) return true;
      origins.refused(origin);
      return false;
    },
  };
}

export function forbiddenOrigin(origin: string): RpcError {
  return new RpcError('forbidden', {
    message: 'Forbidden: pages of this origin are not allowed: add it to ALLOWED_ORIGINS',
    data: { origin: origin.slice(0, 200) },
  });
}

/** Returns the host of the request without the port, in lower case; undefined for HTTP/1.0 without a Host header. */
function hostNameOf(req: IncomingMessage): string | undefined {
  const given: string[] = [];
  for (let index = 0; index < req.rawHeaders.length; index += 2) {
    const name = req.rawHeaders[index];
    if (name?.length === 4 && name.toLowerCase() === 'host') given.push(req.rawHeaders[index + 1] ?? '');
  }
  if (given.length > 1) throw new RpcError('invalid_request', { message: 'Invalid Request: send one Host header' });
  // The host of an absolute target has precedence over the header, which must still be present (RFC 9112, 3.2.2).
  const host = ABSOLUTE.exec(req.url ?? '')?.[1] ?? given[0];
  if (given.length === 0 && (req.httpVersion === '1.1' || host !== undefined)) {
    throw new RpcError('invalid_request', { message: 'Invalid Request: HTTP/1.1 needs a Host header' });
  }
  if (host === undefined) return undefined;
  const name = HOST.exec(host)?.[1];
  if (name === undefined) throw new RpcError('invalid_request', { message: 'Invalid Request: Host is not valid' });
  return name.toLowerCase();
}

function toName(host: string): string {
  return host.includes(':') ? `[${host.toLowerCase()}]` : host.toLowerCase();
}
