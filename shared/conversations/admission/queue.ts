// Prompts that leave a session's queue without having run: each gets an end on record, so that no caller waits for it
// and its idempotency key can be used again where nothing was answered.
import type { Ref, Write } from '../../store/store.ts';
import { transact } from '../../store/transact.ts';
import { NO_USAGE } from '../../usage.ts';
import type { TurnParts } from '../deps.ts';
import type { OwnerWatch } from '../owner-watch.ts';
import {
  type ConversationDocument,
  IDEMPOTENCY_KEPT_MS,
  type IdempotencyDocument,
  type Lease,
  type QueuedPrompt,
} from '../records/documents.ts';
import { endedByOther, type TurnEnd } from '../turns/turn-record.ts';

export type DropReason = 'cancelled' | 'expired' | 'interrupted';

/** The writes that put an end on record for `entries`. */
export function dropQueued(
  conversation: ConversationDocument,
  entries: readonly QueuedPrompt[],
  reason: DropReason,
  nowMs: number,
): Write[] {
  const status = reason === 'cancelled' ? 'cancelled' : 'interrupted';
  const end: TurnEnd = { status, usage: NO_USAGE, nowMs, failure: null };
  return entries.flatMap((entry) => {
    const lease = { ...entry, started_at: entry.enqueued_at };
    const event = { TurnAborted: { turn_id: entry.turn_id, reason } };
    return [endedByOther({ conversation, lease }, undefined, end, event), ...releaseKey(conversation, end, entry)];
  });
}

/** Drops entries whose waiting instance is gone. */
export function dropExpired(conversation: ConversationDocument, owners: OwnerWatch, nowMs: number): Write[] {
  return dropQueued(
    conversation,
    conversation.queue.filter((entry) => !owners.isWaiting(entry)),
    'expired',
    nowMs,
  );
}

/** Takes the entries that `leaves` names out of the queue. */
export async function leaveQueue(
  { store, cache, clock }: TurnParts,
  ref: Ref,
  leaves: (entry: QueuedPrompt) => boolean,
  reason: DropReason,
): Promise<void> {
  const { snapshots } = await transact(store, [ref], ([snapshot]) => {
    const current = cache.read(snapshot);
    const gone = current?.queue.filter(leaves) ?? [];
    if (current === undefined || gone.length === 0) return { writes: [], result: undefined };
    const next: ConversationDocument = { ...current, queue: current.queue.filter((entry) => !gone.includes(entry)) };
    return { writes: [{ ref, data: next }, ...dropQueued(current, gone, reason, clock.now())], result: undefined };
  });
  cache.set(ref, snapshots[0]);
}

/**
 * A turn that never got to its end must not answer for its idempotency key, unless the same prompt would only fail
 * again. The record stays: the next attempt finds the session in it, and the prompt that is stored there already.
 */
export function releaseKey(
  { session_id }: Pick<ConversationDocument, 'session_id'>,
  { status, failure, nowMs }: Pick<TurnEnd, 'status' | 'failure' | 'nowMs'>,
  turn: Lease | QueuedPrompt,
): Write[] {
  const { idempotency_id, params_hash, turn_id } = turn;
  const isFinal = status === 'completed' || status === 'cancelled' || failure?.retryable === false;
  if (isFinal || idempotency_id === null) return [];
  const ref = { collection: 'idempotency', id: idempotency_id };
  if (params_hash === undefined) return [{ ref, delete: true }];
  const prompt_turn = 'alive_until_ms' in turn ? (turn.prompt_turn ?? null) : turn_id;
  const data: IdempotencyDocument = { params_hash, turn_id, session_id, released: true, prompt_turn };
  return [{ ref, data, expireAtMs: nowMs + IDEMPOTENCY_KEPT_MS }];
}
