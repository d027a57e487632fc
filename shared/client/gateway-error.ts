// The error class of the client: the error that the gateway sent, or the reason why there was no response. Never
// contains the key.

import { ERRORS, type Reason } from '../errors.ts';
import { isObject } from '../json/json-object.ts';
import { HEADERS } from '../protocol.ts';
import type { TurnEvent } from './events.ts';

/**
 * Reasons of the gateway's error table, and those of the client itself: no answer was received, in time or at all, or
 * it is not a valid one.
 */
export type ErrorReason = Reason | 'network' | 'timeout' | 'bad_response';

export interface GatewayErrorInit {
  readonly reason: string;
  readonly message: string;
  readonly code?: number;
  readonly status?: number;
  readonly retryable?: boolean;
  readonly data?: Readonly<Record<string, unknown>>;
  readonly requestId?: string | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly cause?: unknown;
}

export class GatewayError extends Error {
  /** Code of the gateway's error table; 0 without a response of the gateway. */
  readonly code: number;
  /** A newer gateway may add reasons. */
  readonly reason: ErrorReason | (string & {});
  /** `error.data` as it was received. */
  readonly data: Readonly<Record<string, unknown>>;
  /** HTTP status; 0 without one (WebSocket, network). */
  readonly status: number;
  /** Identifies the call in the log of the gateway. */
  readonly requestId: string | undefined;
  /** Whether the same request may succeed later. */
  readonly retryable: boolean;
  /** Milliseconds before a retry, if the gateway sent them. */
  readonly retryAfterMs: number | undefined;

  constructor(init: GatewayErrorInit) {
    super(init.message, init.cause === undefined ? undefined : { cause: init.cause });
    this.name = 'GatewayError';
    this.code = init.code ?? 0;
    this.reason = init.reason;
    this.data = init.data ?? {};
    this.status = init.status ?? 0;
    this.requestId = init.requestId;
    this.retryable = init.retryable ?? false;
    this.retryAfterMs = init.retryAfterMs;
  }
}

/** Status and headers of the HTTP response. */
export interface HttpFacts {
  readonly status: number;
  readonly headers: Headers;
}

/** The `error` member of a response, JSON-RPC or not; undefined when it is none. */
export function fromWire(error: unknown, http?: HttpFacts): GatewayError | undefined {
  if (!isObject(error) || typeof error.code !== 'number' || typeof error.message !== 'string') return undefined;
  const data = isObject(error.data) ? error.data : {};
  const { reason, request_id, retryable, retry_after_ms } = data;
  return new GatewayError({
    reason: typeof reason === 'string' ? reason : 'bad_response',
    message: error.message,
    code: error.code,
    data,
    retryable: retryable === true,
    status: http?.status ?? 0,
    requestId: typeof request_id === 'string' ? request_id : requestIdOf(http),
    retryAfterMs: typeof retry_after_ms === 'number' ? retry_after_ms : retryAfterOf(http),
  });
}

/** Statuses with which a proxy before the gateway reports the same as its error table. */
const BY_STATUS: Readonly<Record<number, Reason>> = {
  401: 'unauthorized',
  403: 'forbidden',
  404: 'not_found',
  413: 'payload_too_large',
  429: 'rate_limited',
  503: 'unavailable',
};

/** The error of a response from a proxy, a load balancer or another server. */
export function fromStatus(http: HttpFacts): GatewayError {
  const { status } = http;
  return new GatewayError({
    reason: BY_STATUS[status] ?? 'bad_response',
    message: `the response does not come from a gateway (HTTP ${status}): check the URL`,
    status,
    retryable: [408, 429, 502, 503, 504].includes(status),
    requestId: requestIdOf(http),
    retryAfterMs: retryAfterOf(http),
  });
}

/** The error without a response: the connection was refused, closed, or silent for too long. The call may have run. */
export function networkError(message: string, cause?: unknown): GatewayError {
  return new GatewayError({ reason: 'network', message, retryable: true, cause });
}

/** No server answers at this URL. */
export function unreachable(url: string, cause: unknown): GatewayError {
  return networkError(`the gateway cannot be reached at ${url}`, cause);
}

/** The error of a failed turn, from its last event, for a caller that resumed it and has no answer of its prompt. */
export function fromTurnEnd(status: string, { event, ...where }: TurnEvent): GatewayError {
  const failure = event.Error;
  const reason = failure?.reason ?? (status === 'cancelled' ? 'cancelled' : 'unavailable');
  const row = isReason(reason) ? ERRORS[reason] : ERRORS.internal;
  return new GatewayError({
    reason,
    message: failure?.message ?? row.message,
    code: row.code,
    retryable: row.retryable,
    data: { reason, turn_status: status, session_id: where.session_id, turn_id: where.turn_id },
  });
}

function isReason(reason: string): reason is Reason {
  return Object.hasOwn(ERRORS, reason);
}

function requestIdOf(http: HttpFacts | undefined): string | undefined {
  return http?.headers.get(HEADERS.requestId) ?? undefined;
}

/** Seconds or a date (RFC 9110, 10.2.3). */
function retryAfterOf(http: HttpFacts | undefined): number | undefined {
  const value = http?.headers.get(HEADERS.retryAfter);
  if (value === null || value === undefined) return undefined;
  const ms = /^\d+$/.test(value) ? Number(value) * 1_000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}
