// The errors of a Codex turn that do not come from the provider.
import { RpcError } from '../../errors.ts';
import { clean } from '../failures/provider-message.ts';
import type { ClosedCodex, CodexRefusal } from './protocol/client.ts';

/** The prompt was sent, and it is unknown whether it was answered. */
const SENT = { provider: 'codex', sent: true };

/** A `failure` of the connection to the app-server states whether the turn may have had an effect. */
export function appServerEnded({ stderrTail, failure }: ClosedCodex): RpcError {
  if (failure instanceof RpcError) return failure;
  const cause = new Error(`codex app-server ended during a turn: ${stderrTail}`);
  return new RpcError('upstream_error', { message: 'Codex ended during the turn', data: SENT, cause });
}

export function turnInterrupted(): RpcError {
  return new RpcError('upstream_error', { message: 'Codex stopped the turn', data: SENT });
}

export function emptyAnswer(): RpcError {
  const message = 'Codex ended the turn without an answer';
  return new RpcError('upstream_error', { message, data: { provider: 'codex' }, retryable: false });
}

export function answerTooLong(): RpcError {
  const message = 'The answer of Codex exceeds this gateway’s limit for one turn (4 Mi characters)';
  return new RpcError('upstream_error', { message, data: { provider: 'codex' }, retryable: false });
}

export function requestRefused(cause: CodexRefusal): RpcError {
  const message = `Codex refused the turn: ${clean(cause.message)}`;
  return new RpcError('upstream_error', { message, data: { provider: 'codex' }, cause });
}

export function turnTimeout(timeoutMs: number): RpcError {
  const message = `Codex did not finish within ${timeoutMs / 1_000} s`;
  return new RpcError('upstream_timeout', { message, data: SENT });
}
