// The error table and the error class. Every error that the gateway sends to a caller is a row of the table. Any other
// error is sent as `internal`, and its cause is written to the log only.

interface ErrorRow {
  /** JSON-RPC error code. */
  readonly code: number;
  readonly message: string;
  /** HTTP status of a single JSON-RPC call that fails in its method; in a batch the status is 200. */
  readonly status: number;
  /** Whether the same request may succeed later. */
  readonly retryable: boolean;
}

/** One row per failure class. `conflict` rows share code 409 and differ in `data.reason`. */
export const ERRORS = {
  parse_error: { code: -32700, message: 'Parse error', status: 400, retryable: false },
  invalid_request: { code: -32600, message: 'Invalid Request', status: 400, retryable: false },
  method_not_found: { code: -32601, message: 'Method not found', status: 200, retryable: false },
  invalid_params: { code: -32602, message: 'Invalid params', status: 200, retryable: false },
  internal: { code: -32603, message: 'Internal error', status: 500, retryable: true },
  unauthorized: { code: 401, message: 'Unauthorized', status: 401, retryable: false },
  rate_limited: { code: 429, message: 'Too Many Requests', status: 429, retryable: true },
  payload_too_large: { code: 413, message: 'Payload too large', status: 413, retryable: false },
  unsupported_media_type: { code: 415, message: 'Unsupported media type', status: 415, retryable: false },
  method_not_allowed: { code: 405, message: 'Method not allowed', status: 405, retryable: false },
  unavailable: { code: 503, message: 'Service unavailable', status: 503, retryable: true },
  forbidden: { code: 403, message: 'Forbidden', status: 200, retryable: false },
  sandbox_unavailable: { code: 403, message: 'Sandbox unavailable', status: 200, retryable: false },
  not_found: { code: 404, message: 'Not found', status: 200, retryable: false },
  session_busy: { code: 409, message: 'Session is busy', status: 200, retryable: true },
  queue_full: { code: 409, message: 'Session queue is full', status: 200, retryable: true },
  idempotency_in_flight: {
    code: 409,
    message: 'A request with this idempotency key is in flight',
    status: 200,
    retryable: true,
  },
  storage_full: { code: 409, message: 'Storage is full', status: 200, retryable: false },
  patch_failed: { code: 409, message: 'Patch does not apply', status: 200, retryable: false },
  conflict: { code: 409, message: 'Conflict', status: 200, retryable: true },
  cancelled: { code: 499, message: 'Cancelled', status: 200, retryable: false },
  upstream_error: { code: 502, message: 'Upstream error', status: 200, retryable: true },
  upstream_timeout: { code: 504, message: 'Upstream timeout', status: 200, retryable: true },
} as const satisfies Record<string, ErrorRow>;

export type Reason = keyof typeof ERRORS;

/** One mistake in the params of a call: `path` in dotted form ('' for all params), `message` for people. */
export interface Issue {
  readonly path: string;
  readonly message: string;
}

export interface RpcErrorOptions {
  /** Replaces the table's message; must be safe to show to the caller. */
  readonly message?: string;
  /** More members of `error.data`, with wire names (snake_case); must be safe to show to the caller. */
  readonly data?: Readonly<Record<string, unknown>>;
  readonly retryAfterMs?: number;
  /**
   * Overrides the table's `retryable` where the cause is known (an invalid credential is a 502, and a retry cannot
   * succeed).
   */
  readonly retryable?: boolean;
  /** The original error, for the log only; never sent. */
  readonly cause?: unknown;
}

/** `error.data` on the wire. */
export interface WireErrorData {
  readonly reason: Reason;
  readonly request_id: string;
  readonly retryable: boolean;
  readonly retry_after_ms?: number;
  readonly [member: string]: unknown;
}

export interface WireError {
  readonly code: number;
  readonly message: string;
  readonly data: WireErrorData;
}

const STATUSES_OF_ANSWERS: ReadonlySet<number> = new Set([429, 500, 503]);
/** Delay before a retry after an outage of unknown length. */
const UNAVAILABLE_MS = 1_000;

/** The only error that is sent to callers. Throw it with a reason of the table; any other error becomes `internal`. */
export class RpcError extends Error {
  readonly reason: Reason;
  readonly data: Readonly<Record<string, unknown>>;
  readonly retryAfterMs: number | undefined;
  readonly retryable: boolean;

  constructor(reason: Reason, options: RpcErrorOptions = {}) {
    super(
      options.message ?? (reason === 'invalid_params' ? toSentence(options.data?.issues) : ERRORS[reason].message),
      options.cause === undefined ? undefined : { cause: options.cause },
    );
    this.name = 'RpcError';
    this.reason = reason;
    this.data = options.data ?? {};
    this.retryAfterMs = options.retryAfterMs ?? (reason === 'unavailable' ? UNAVAILABLE_MS : undefined);
    this.retryable = options.retryable ?? ERRORS[reason].retryable;
  }

  /** The code of the error object: a JSON-RPC code below zero, or an HTTP status. */
  get code(): number {
    return ERRORS[this.reason].code;
  }

  /** HTTP status of a request that fails before a method is chosen, or outside JSON-RPC: never below 400. */
  get httpStatus(): number {
    const { code, status } = ERRORS[this.reason];
    // 499 is not a standard HTTP status, and its client has disconnected.
    return code >= 400 && code !== 499 ? code : Math.max(400, status);
  }

  /** HTTP status of a single JSON-RPC call that fails this way: mostly 200, as JSON-RPC clients expect. */
  get callStatus(): number {
    return ERRORS[this.reason].status;
  }

  /**
   * HTTP status of a single call whose method fails this way: 200, because the request was accepted. Except 429 and 5xx
   * rows, for which HTTP clients wait or report a server error.
   */
  get answerStatus(): number {
    return STATUSES_OF_ANSWERS.has(this.callStatus) ? this.callStatus : 200;
  }

  /** The `error` member of a response. */
  toWire(requestId: string): WireError {
    return {
      code: this.code,
      message: this.message,
      data: {
        ...this.data,
        reason: this.reason,
        request_id: requestId,
        retryable: this.retryable,
        ...(this.retryAfterMs === undefined ? {} : { retry_after_ms: Math.max(0, Math.ceil(this.retryAfterMs)) }),
      },
    };
  }
}

/**
 * The data directory was deleted or unmounted while the gateway runs. No request is accepted, because its data would be
 * lost.
 */
export function dataDirectoryGone(cause: unknown): RpcError {
  return new RpcError('unavailable', {
    message: 'The data directory of the gateway is missing; its operator must restore it and restart the gateway',
    retryAfterMs: 10_000,
    cause,
  });
}

/** Most issues in a message; `data.issues` contains all of them. */
const ISSUES_IN_MESSAGE = 3;

/** The message of error -32602: one phrase per param. */
function toSentence(issues: unknown): string {
  const list: readonly Issue[] = Array.isArray(issues) ? issues : [];
  if (list.length === 0) return ERRORS.invalid_params.message;
  const shown = list
    .slice(0, ISSUES_IN_MESSAGE)
    .map(({ path, message }) => (path === '' || message.startsWith(path) ? message : `${path}: ${message}`));
  const more = list.length - shown.length;
  return more === 0 ? shown.join('; ') : `${shown.join('; ')}; and ${more} more`;
}

/** Whether a name from outside is a reason of the table. */
export function isReason(name: string): name is Reason {
  return Object.hasOwn(ERRORS, name);
}

/** The code of an error of the system or of Node, as `ENOENT`; undefined for an error without a code. */
export function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}

/** Returns an RpcError unchanged. Wraps any other error as `internal`, with the original as its cause. */
export function toRpcError(error: unknown): RpcError {
  return error instanceof RpcError ? error : new RpcError('internal', { cause: error });
}

/**
 * Returns `error` if the signal has not aborted or `error` is an RpcError, otherwise `cancelled` with `error` as its
 * cause.
 */
export function toCancelled(error: unknown, signal: AbortSignal): unknown {
  if (!signal.aborted || error instanceof RpcError) return error;
  return new RpcError('cancelled', { cause: error });
}
