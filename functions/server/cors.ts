// Exact-origin CORS, with the headers that browsers may send and read.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Origins } from '../../shared/auth/origins.ts';
import { HEADERS } from '../../shared/protocol.ts';
import { sendNothing } from './http.ts';

const EXPOSED_HEADERS = [
  ...[HEADERS.rateLimit, HEADERS.rateRemaining, HEADERS.rateReset],
  ...[HEADERS.retryAfter, HEADERS.requestId, HEADERS.overheadMs],
].join(', ');
const ALLOWED_HEADERS = [
  ...['Content-Type', HEADERS.key, 'Authorization', 'Accept'],
  ...[HEADERS.idempotencyKey, HEADERS.lastEventId, HEADERS.requestId],
  // Headers that tracing libraries in browsers add to requests: W3C Trace Context and Baggage, B3, and those of common
  // vendors.
  'traceparent, tracestate, baggage, b3, X-B3-TraceId, X-B3-SpanId, X-B3-ParentSpanId, X-B3-Sampled, X-B3-Flags',
  'X-Cloud-Trace-Context, X-Amzn-Trace-Id, uber-trace-id, sentry-trace, Request-Id, Request-Context, newrelic',
  'X-Datadog-Trace-Id, X-Datadog-Parent-Id, X-Datadog-Origin, X-Datadog-Sampling-Priority, X-Datadog-Tags',
  'elastic-apm-traceparent',
].join(', ');

/**
 * Sets the CORS headers for a listed origin. Responds to preflight requests and returns true for them. For an origin
 * that is not listed, no headers are set, so the browser blocks the response; other clients are not affected.
 */
export function handleCors(
  req: IncomingMessage,
  res: ServerResponse,
  origins: Pick<Origins, 'has'>,
  methods: string,
): boolean {
  const origin = req.headers.origin;
  const listed = origin !== undefined && origins.has(origin);
  if (origin !== undefined) res.setHeader('Vary', 'Origin');
  if (listed) {
    res.setHeader('Access-Control-Allow-Origin', origin);
    res.setHeader('Access-Control-Expose-Headers', EXPOSED_HEADERS);
  }
  if (req.method !== 'OPTIONS') return false;
  sendNothing(res, {
    Allow: `${methods}, OPTIONS`,
    ...(listed
      ? {
          'Access-Control-Allow-Methods': methods,
          'Access-Control-Allow-Headers': ALLOWED_HEADERS,
          'Access-Control-Max-Age': 600,
        }
      : {}),
  });
  return true;
}
