// Idempotency keys: the same key with the same params is answered by the same turn for 24 hours.
import { createHash } from 'node:crypto';
import { RpcError } from '../../errors.ts';
import type { Ref, Write } from '../../store/store.ts';
import { IDEMPOTENCY_KEPT_MS, type IdempotencyDocument, IdempotencyRecords } from '../records/turn-documents.ts';
import type { PromptRequest } from './prompt-request.ts';

/** Hash by which params are compared: the same key with different params is an error. */
export function hashParams(params: Readonly<Record<string, unknown>>): string {
  const sorted = Object.entries(params)
    .filter(([, value]) => value !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash('sha256').update(JSON.stringify(sorted)).digest('base64url');
}

/** Whether another turn has the key. */
export function isTaken(record: IdempotencyDocument | undefined, turnId: string): record is IdempotencyDocument {
  return record !== undefined && record.turn_id !== turnId && record.released !== true;
}

/**
 * The turn whose answer is returned for a used key. Throws `invalid_params` when the key was used with different
 * params.
 */
export function duplicateOf(record: IdempotencyDocument, { idempotency }: PromptRequest) {
  if (record.params_hash === idempotency?.paramsHash) {
    return { kind: 'duplicate', turnId: record.turn_id, sessionId: record.session_id } as const;
  }
  throw new RpcError('invalid_params', {
    message: 'Invalid params: this idempotency key was used with other params',
    data: {
      issues: [
        { path: 'idempotency_key', message: 'was used with other params in the last 24 hours; choose a new key' },
      ],
    },
  });
}

/** The record of an earlier attempt of the same prompt that has released the key. */
export function earlierAttempt(
  record: IdempotencyDocument | undefined,
  { idempotency }: PromptRequest,
): IdempotencyDocument | undefined {
  return record?.released === true && record.params_hash === idempotency?.paramsHash ? record : undefined;
}

/** Assigns the key to this turn. `before`: the record of an earlier attempt that has released the key. */
export function takeKey(
  ref: Ref,
  before: IdempotencyDocument | undefined,
  turnId: string,
  { owner, idempotency, sessionId }: PromptRequest,
  nowMs: number,
): Write {
  const { released: _released, prompt_turn: _prompt, ...others } = before ?? {};
  const named = { owner, params_hash: idempotency?.paramsHash ?? '', turn_id: turnId, session_id: sessionId };
  return IdempotencyRecords.write(ref, { ...others, ...named }, { expireAtMs: nowMs + IDEMPOTENCY_KEPT_MS });
}
