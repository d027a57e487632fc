// `bff.proxy`: sends one HTTP request to a backend that the operator has configured.
import { z } from 'zod';
import { nextHeavyTurn } from '../async.ts';
import type { Config } from '../config/config.ts';
import { RpcError } from '../errors.ts';
import { toBackendUrl } from '../net/backend-url.ts';
import { isUnsent } from '../net/fetch-failure.ts';
import { notKept, placeAnswer } from '../rpc/answers.ts';
import { overloaded } from '../rpc/in-flight.ts';
import { inspectJson } from '../rpc/json/json-numbers.ts';
import { DEPTH_MAX } from '../rpc/parse.ts';
import { defineMethod } from './define-method.ts';

const BODY_BYTES_MAX = 5 << 20;
/** Larger bodies are converted to responses one at a time. */
const LARGE_BODY_BYTES = 64 << 10;
/** JSON whose parsed value would use more memory is returned as text. */
const JSON_HEAP_BYTES_MAX = 32 << 20;
/** Headers of the backend that are not returned: they are about the connection, or would set cookies. */
const HIDDEN = new Set([
  'connection',
  'keep-alive',
  'set-cookie',
  'set-cookie2',
  'transfer-encoding',
  'content-encoding',
  'content-length',
  'upgrade',
  'trailer',
  'te',
  'proxy-authenticate',
  'proxy-authentication-info',
  'proxy-connection',
]);

/** HTTP methods that are not idempotent (RFC 9110 section 9.2.2). */
const NOT_IDEMPOTENT: ReadonlySet<string> = new Set(['POST', 'PATCH']);

const HeaderName = z.string().regex(/^[!#$%&'*+.^_`|~\w-]{1,256}$/, 'is not a header name');
/** The characters that a header value allows (RFC 9110 section 5.5); the HTTP client throws for others. */
const HeaderValue = z
  .string()
  .max(8_192)
  .regex(/^[\t\x20-\x7e\x80-\xff]*$/, 'must be one line of Latin-1 characters');
const QueryValue = z.union([z.string(), z.number(), z.boolean()]);

const Params = z.strictObject({
  endpoint: z.string().min(1).max(2_048).describe('Path below the backend’s base URL, e.g. `/api/users`'),
  method: z.enum(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']).default('GET'),
  backend: z.string().max(64).optional().describe('Name of a configured backend; default: the one of BFF_BASE_URL'),
  headers: z.record(HeaderName, HeaderValue).optional(),
  query: z.record(z.string().max(256), z.union([QueryValue, z.array(QueryValue).max(100)])).optional(),
  body: z.unknown().optional().describe('A string is sent as it is, anything else as JSON'),
});
type Params = z.output<typeof Params>;
type Backend = Config['backends'] extends ReadonlyMap<string, infer B> ? B : never;

export interface BffProxyDeadlines {
  /** Deadline from the request to the headers of the response, milliseconds. Default 10 s. */
  readonly headersTimeoutMs?: number;
  /** Deadline of the whole exchange with redirects and body, milliseconds. Default 30 s. */
  readonly totalTimeoutMs?: number;
}

export const bffProxy = createBffProxy();

export function createBffProxy({ headersTimeoutMs = 10_000, totalTimeoutMs = 30_000 }: BffProxyDeadlines = {}) {
  return defineMethod({
    name: 'bff.proxy',
    summary: 'Sends one HTTP request to a backend that the operator has configured',
    scope: 'proxy',
    cost: 'work',
    params: Params,
    result: z.object({
      status: z.int(),
      headers: z.record(z.string(), z.string()),
      body: z
        .unknown()
        .describe(
          'JSON is parsed; text, and JSON that is nested deeper than 64, would lose ' +
            'digits of a number or would use more than 32 MiB of memory, is a string; other bodies are base64',
        ),
      body_encoding: z.enum(['json', 'text', 'base64']),
    }),
    errors: ['forbidden', 'upstream_error', 'upstream_timeout'],
    example: {
      params: { endpoint: '/api/users', method: 'GET', query: { page: 1, limit: 10 } },
      result: { status: 200, headers: { 'content-type': 'application/json' }, body: [], body_encoding: 'json' },
    },
    async handle(params, { services, signal, memory }) {
      const backend = findBackend(services.config.backends, params.backend);
      checkBody(params);
      const url = toTarget(backend, params);
      const { createSafeFetch, readLimited } = await import('../net/safe-fetch.ts');
      const safeFetch = createSafeFetch({
        internalOrigins: new Set(backend.internal ? [new URL(backend.baseUrl).origin] : []),
        redirectsWithin: new URL(backend.baseUrl),
        headersTimeoutMs,
        totalTimeoutMs,
      });
      const headers = new Headers(params.headers);
      try {
        if (params.body !== undefined && typeof params.body !== 'string' && !headers.has('content-type')) {
          headers.set('content-type', 'application/json');
        }
        const response = await safeFetch(url, {
          method: params.method,
          headers: [...headers],
          signal,
          ...(params.body === undefined
            ? {}
            : { body: typeof params.body === 'string' ? params.body : JSON.stringify(params.body) }),
        });
        const hasEffect = NOT_IDEMPOTENT.has(params.method);
        const bytes = await readLimited(response, BODY_BYTES_MAX, (size) => {
          if (!memory.hold(size)) throw hasEffect ? notKept() : overloaded();
        });
        if (bytes.length > LARGE_BODY_BYTES) await (hasEffect ? placeAnswer(memory, signal) : memory.place());
        return {
          status: response.status,
          headers: shownHeaders(response.headers),
          ...(await toBody(bytes, response.headers.get('content-type') ?? '')),
        };
      } catch (error) {
        // The backend may have executed the POST already, and a retry would execute it again.
        const isRepeatable = !NOT_IDEMPOTENT.has(params.method) || headers.has('idempotency-key');
        if (!(error instanceof RpcError) || isRepeatable || isUnsent(error)) throw error;
        const { reason, message, data, cause } = error;
        throw new RpcError(reason, { message, data, retryable: false, cause });
      } finally {
        void safeFetch.close();
      }
    },
  });
}

function findBackend(backends: Config['backends'], name = 'default'): Backend {
  const backend = backends.get(name);
  if (backend !== undefined) return backend;
  throw new RpcError('forbidden', {
    message: `Forbidden: this deployment has no backend "${name}" (set BFF_BASE_URL or BFF_BACKENDS)`,
    data: { disabled_by: 'deployment', backend: name },
  });
}

/** A body of GET or HEAD has no defined meaning (RFC 9110 section 9.3.1), and the HTTP client does not send it. */
function checkBody({ method, body }: Pick<Params, 'method' | 'body'>): void {
  if (body === undefined || (method !== 'GET' && method !== 'HEAD')) return;
  throw new RpcError('invalid_params', {
    data: { issues: [{ path: 'body', message: `must not be given with ${method}` }] },
  });
}

function toTarget({ baseUrl }: Backend, { endpoint, query = {} }: Pick<Params, 'endpoint' | 'query'>): URL {
  const url = toBackendUrl(baseUrl, endpoint);
  for (const [key, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) url.searchParams.append(key, String(one));
  }
  return url;
}

/**
 * The headers without hop-by-hop headers: the known ones, and those that `Connection` lists (RFC 9110 section 7.6.1).
 */
function shownHeaders(headers: Headers): Record<string, string> {
  const named = new Set(
    headers
      .get('connection')
      ?.toLowerCase()
      .split(/\s*,\s*/),
  );
  return Object.fromEntries([...headers].filter(([header]) => !HIDDEN.has(header) && !named.has(header)));
}

type Body = { readonly body: unknown; readonly body_encoding: 'json' | 'text' | 'base64' };

/** Large JSON is inspected and parsed in iterations of the event loop of their own. */
async function toBody(bytes: Uint8Array, contentType: string): Promise<Body> {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return { body: Buffer.from(bytes).toString('base64'), body_encoding: 'base64' };
  }
  if (/[/+]json\b/i.test(contentType)) {
    const { depth, inexact, heapBytes } = inspectJson(text);
    const isKept = depth <= DEPTH_MAX && inexact.length === 0 && heapBytes <= JSON_HEAP_BYTES_MAX;
    if (bytes.length > LARGE_BODY_BYTES) await nextHeavyTurn();
    try {
      if (isKept) return { body: JSON.parse(text), body_encoding: 'json' };
    } catch {
      // The content type is JSON but the body is not: it is returned as text.
    }
  }
  return { body: text, body_encoding: 'text' };
}
