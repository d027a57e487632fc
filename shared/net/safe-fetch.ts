// HTTP to URLs that a caller influences, safe against SSRF (OWASP, CWE-918): the name is resolved once, every address
// of it is checked, and the checked address is the one that is dialled, so that a second answer of a rebinding name
// server has no effect. Redirects are checked like the first request, and lose the headers of the caller and of the
// administrator when they leave the origin.

import dns from 'node:dns';
import type { LookupFunction } from 'node:net';
import { Agent, Headers, type HeadersInit, type RequestInit, type Response, fetch as undiciFetch } from 'undici';
import { deadline } from '../async.ts';
import { RpcError } from '../errors.ts';
import { isGloballyRoutable, literalOf } from './address.ts';
import { isBelow } from './backend-url.ts';
import { toFailure } from './fetch-failure.ts';

export interface SafeFetchPolicy {
  /** Origins that the operator has configured as internal; their addresses are not checked. */
  readonly internalOrigins?: ReadonlySet<string>;
  readonly headersTimeoutMs?: number;
  /**
   * Deadline of the request and its body, milliseconds; undefined: only the caller's signal ends it (event streams).
   */
  readonly totalTimeoutMs?: number | undefined;
  readonly redirectsMax?: number;
  /** Redirects may lead to this URL and below it only; undefined: to every allowed address. */
  readonly redirectsWithin?: URL;
  /** Resolves names; tests count its calls. */
  readonly lookup?: typeof dns.lookup;
}

export interface SafeFetch {
  (url: string | URL, init?: RequestInit): Promise<Response>;
  close(): Promise<void>;
}

const CONNECT_TIMEOUT_MS = 5_000;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
/**
 * Never forwarded: they describe this connection or the gateway, or enable the metadata server (RFC 9110 section
 * 7.6.1).
 */
const STRIPPED = [
  'connection',
  'content-length',
  'cookie',
  'expect',
  'forwarded',
  'host',
  'keep-alive',
  'metadata-flavor',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'x-api-key',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
  'x-google-metadata-request',
  'x-real-ip',
] as const;
/**
 * The only headers that a request keeps when a redirect leads to another origin: any other header may be a credential,
 * whatever its name. They describe the format of the request and of its answer.
 */
const KEPT_ACROSS_ORIGINS: ReadonlySet<string> = new Set(['accept', 'content-type', 'mcp-protocol-version']);

/**
 * Creates a fetch with this policy. Throws RpcError `forbidden` for an address that must not be reached (data.detail
 * names the rule), `upstream_timeout` when a deadline passes, `upstream_error` for every other failure of the
 * connection; the signal's reason when aborted.
 */
export function createSafeFetch(policy: SafeFetchPolicy = {}): SafeFetch {
  const { internalOrigins = new Set<string>(), headersTimeoutMs = 10_000, redirectsMax = 3, redirectsWithin } = policy;
  const lookup = policy.lookup ?? dns.lookup;
  const common = {
    headersTimeout: headersTimeoutMs,
    maxResponseSize: -1,
    maxHeaderSize: 16_384,
    pipelining: 1,
  } as const;
  const inside = new Agent({ ...common, connect: { timeout: CONNECT_TIMEOUT_MS } });
  const outside = new Agent({ ...common, connect: { timeout: CONNECT_TIMEOUT_MS, lookup: checkedLookup(lookup) } });

  const send = async (url: string | URL, init: RequestInit = {}): Promise<Response> => {
    const { totalTimeoutMs } = policy;
    const signal = totalTimeoutMs === undefined ? (init.signal ?? null) : deadline(totalTimeoutMs, init.signal);
    let target = toTarget(url);
    let request: RequestInit = { ...init, headers: clean(init.headers) };
    for (let hop = 0; ; hop++) {
      const internal = internalOrigins.has(target.origin);
      if (!internal) checkHost(target);
      const response = await dial(target, {
        ...request,
        signal,
        redirect: 'manual',
        dispatcher: internal ? inside : outside,
      });
      const location = response.headers.get('location');
      if (!REDIRECTS.has(response.status) || location === null) return response;
      await response.body?.cancel();
      if (hop >= redirectsMax)
        throw new RpcError('upstream_error', { message: `more than ${redirectsMax} redirects`, retryable: false });
      const next = toTarget(location, target);
      if (redirectsWithin !== undefined && !isBelow(redirectsWithin, next))
        throw refused('redirect', 'the backend redirects to a URL outside its base URL');
      request = redirected(request, response.status, target.origin === next.origin);
      target = next;
    }
  };

  const dial = async (target: URL, init: RequestInit): Promise<Response> => {
    try {
      return await undiciFetch(target, init);
    } catch (error) {
      throw toFailure(error, init.signal);
    }
  };

  return Object.assign(send, {
    async close() {
      await Promise.all([inside.close(), outside.close()]);
    },
  });
}

/**
 * Reads a body up to `maxBytes`; throws RpcError `upstream_error` beyond it. `hold` is called with the size of each
 * chunk before it is kept, and may throw.
 */
export async function readLimited(
  response: Response,
  maxBytes: number,
  hold: (bytes: number) => void = () => {},
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of response.body ?? []) {
      size += chunk.length;
      if (size > maxBytes)
        throw new RpcError('upstream_error', {
          message: `the answer is larger than ${maxBytes} bytes`,
          retryable: false,
        });
      hold(chunk.length);
      chunks.push(chunk);
    }
  } catch (error) {
    throw toFailure(error, null);
  }
  return Buffer.concat(chunks, size);
}

function toTarget(url: string | URL, base?: URL): URL {
  if (!URL.canParse(String(url), base?.href)) throw refused('not_a_url', 'not a URL');
  const target = new URL(url, base);
  if (target.protocol !== 'https:' && target.protocol !== 'http:')
    throw refused('scheme', 'only http and https are allowed');
  if (target.username !== '' || target.password !== '')
    throw refused('userinfo', 'credentials in the URL are not allowed');
  return target;
}

/** Checks literal addresses, for which there is no lookup, and names that resolve in internal networks only. */
function checkHost({ hostname }: URL): void {
  const literal = literalOf(hostname);
  if (literal !== undefined && !isGloballyRoutable(literal))
    throw refused('address', 'the address is not globally routable');
  const name = hostname.replace(/\.$/, '');
  if (
    literal === undefined &&
    (!name.includes('.') || /\.(localhost|local|internal|home\.arpa|localdomain)$/.test(name))
  ) {
    throw refused('name', 'the name is not a public one');
  }
}

/** A lookup for `net.connect` that succeeds only when every address of the name is globally routable. */
function checkedLookup(lookup: typeof dns.lookup): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return callback(error, []);
      if (addresses.length === 0 || !addresses.every(({ address }) => isGloballyRoutable(address))) {
        const refusal = refused('address', 'the name has an address that is not globally routable');
        return callback(new Error(refusal.message, { cause: refusal }), []);
      }
      const [first] = addresses;
      if (options.all === true || first === undefined) return callback(null, addresses);
      return callback(null, first.address, first.family);
    });
  };
}

function clean(init: HeadersInit | undefined): Headers {
  const headers = new Headers(init);
  // Headers named in `Connection` are hop-by-hop as well.
  for (const named of headers.get('connection')?.split(',') ?? []) {
    if (/^[\w-]+$/.test(named.trim())) headers.delete(named.trim());
  }
  for (const name of STRIPPED) headers.delete(name);
  return headers;
}

/**
 * The request after a redirect (Fetch standard, HTTP-redirect fetch): 303, and 301/302 after a POST, become a GET
 * without a body.
 */
function redirected(request: RequestInit, status: number, sameOrigin: boolean): RequestInit {
  const headers = new Headers(
    [...new Headers(request.headers)].filter(([name]) => sameOrigin || KEPT_ACROSS_ORIGINS.has(name)),
  );
  const becomesGet = status === 303 || ((status === 301 || status === 302) && request.method === 'POST');
  if (!becomesGet) return { ...request, headers };
  const { body: _, ...rest } = request;
  headers.delete('content-type');
  return { ...rest, method: 'GET', headers };
}

function refused(detail: string, message: string): RpcError {
  return new RpcError('forbidden', { message: `Forbidden: ${message}`, data: { detail } });
}
