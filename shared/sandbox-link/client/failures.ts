// Maps failures of calls to the sandbox service to the errors that callers of the gateway receive: what happened, and
// whether the call may have had an effect. The service is not trusted, so only some of its reasons are passed on, with
// bounded texts.
import { type Reason, RpcError } from '../../errors.ts';
import type { Link } from '../link/link.ts';

/** Reasons of the service that callers receive unchanged. */
const PASSED: ReadonlySet<Reason> = new Set<Reason>([
  ...(['sandbox_unavailable', 'unavailable', 'invalid_params', 'not_found', 'conflict', 'storage_full'] as const),
  ...(['payload_too_large', 'cancelled'] as const),
]);
const MESSAGE_CHARS_MAX = 1_000;
const DATA_CHARS_MAX = 16_384;

/** The error if nothing was sent to the service. */
export function notReached(cause: unknown): RpcError {
  return new RpcError('unavailable', {
    message: 'The sandbox service cannot be reached; nothing was started',
    data: { may_have_effect: false },
    cause,
  });
}

/** The error if the link ended during the call. `what` names the call in the message, for example "The command". */
export function lost(what: string, cause: unknown): RpcError {
  return new RpcError('unavailable', {
    message: [
      'The connection to the sandbox service was lost.',
      `${what} may have had an effect, and has ended or is ended now`,
    ].join(' '),
    data: { may_have_effect: true },
    retryable: false,
    cause,
  });
}

/** The service did not answer in time. */
export function silent(what: string): RpcError {
  return new RpcError('unavailable', {
    message: `The sandbox service did not answer in time. ${what} may have had an effect`,
    data: { may_have_effect: true },
    retryable: false,
  });
}

/** The service sent what is not part of its protocol. */
export function broken(what: string, cause: unknown): RpcError {
  return new RpcError('unavailable', {
    message: `The sandbox service sent an answer that is not valid. ${what} may have had an effect`,
    data: { may_have_effect: true },
    retryable: false,
    cause,
  });
}

/** The error of a request that was sent over `link`. */
export function toFailure(error: unknown, link: Link, what: string): RpcError {
  if (link.over.aborted) return lost(what, error);
  if (error instanceof RpcError && error.reason === 'internal') return new RpcError('internal', { cause: error });
  if (!(error instanceof RpcError) || !PASSED.has(error.reason)) return broken(what, error);
  const { reason, message, data, retryAfterMs, retryable } = error;
  const isSmall = JSON.stringify(data).length <= DATA_CHARS_MAX;
  return new RpcError(reason, {
    message: message.slice(0, MESSAGE_CHARS_MAX),
    ...(isSmall && { data }),
    ...(retryAfterMs !== undefined && { retryAfterMs: Math.min(Math.max(0, retryAfterMs), 60_000) }),
    retryable,
    cause: error,
  });
}
