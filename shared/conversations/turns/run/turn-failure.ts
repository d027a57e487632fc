// Converts the error of a failed turn to the failure that is stored, and logs it.
import type { RpcError } from '../../../errors.ts';
import { causeOf, errorFields, type Logger } from '../../../log.ts';
import type { TurnDocument } from '../../records/turn-documents.ts';
import type { AdmittedTurn } from '../turn.ts';

export function toFailure(failure: RpcError, { lease }: AdmittedTurn): NonNullable<TurnDocument['failure']> {
  // If the prompt was sent, the provider may have answered it. A retry without an idempotency key could then be
  // answered and stored twice.
  const isSafe = failure.data.sent !== true || lease.idempotency_id !== null;
  return {
    reason: failure.reason,
    message: failure.message,
    data: JSON.stringify(failure.data),
    retryable: failure.retryable && isSafe,
    retry_after_ms: isSafe ? (failure.retryAfterMs ?? null) : null,
  };
}

/**
 * The line of a turn, also of one whose call has ended; the line of the call contains the turn id. `model`: the one
 * that failed last.
 */
export function logFailure(log: Logger, failure: RpcError, { lease, conversation }: AdmittedTurn, model: string): void {
  const { reason, message, data, cause } = failure;
  const fields = {
    turn_id: lease.turn_id,
    session_id: conversation.session_id,
    key_id: conversation.owner,
    reason,
    provider: data.provider,
    model,
    status: data.status,
    attempts: data.attempts,
  };
  if (reason === 'internal') log.error('turn failed', { ...fields, ...errorFields(cause) });
  else {
    log.warn('turn failed', { ...fields, error: message, cause: causeOf(failure) });
  }
}
