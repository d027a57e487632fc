// Ends a turn or a queued prompt that its owner cannot end: the lease expired, the owner does not answer a stop request, or the waiting
// instance is gone. What the owner had stored of the answer is kept in the history.
import { RpcError } from '../errors.ts';
import type { Ref, Write } from '../store/store.ts';
import { transact } from '../store/transact.ts';
import {
  type AbortReason,
  type ConversationDocument,
  type Lease,
  type QueuedPrompt,
  type TurnDocument,
  turnRef,
} from './documents.ts';
import { appendMessage } from './history.ts';
import { isAbandoned, settle } from './lease.ts';
import { decodeTurn, endedByOther, readSealed, type TurnEnd, type TurnFacts } from './turn-record.ts';
import type { RunnerParts } from './turn-runner.ts';
import { NO_USAGE } from './usage.ts';

const ROUNDS_MAX = 5;

export interface AbandonedOptions {
  readonly reason: Extract<AbortReason, 'cancelled' | 'replaced' | 'interrupted'>;
  /** End it although the lease is still valid: the owner was asked to stop and did not answer. It is fenced by the epoch. */
  readonly force?: boolean;
}

/** Settles the turn of `lease` unless somebody else already has, or its owner lives. */
export async function settleAbandoned(
  parts: RunnerParts,
  ref: Ref,
  lease: Lease,
  options: AbandonedOptions,
): Promise<void> {
  for (let round = 0; round < ROUNDS_MAX; round++) {
    if (await trySettle(parts, ref, lease, options)) return;
  }
  throw new RpcError('unavailable', { message: 'the turn before is still being settled', retryAfterMs: 1_000 });
}

/** False when the turn's record changed between the reads and the commit. */
async function trySettle(parts: RunnerParts, ref: Ref, lease: Lease, options: AbandonedOptions): Promise<boolean> {
  const { store, clock, history, cache } = parts;
  const recordRef = turnRef(lease.turn_id);
  const [conversationSnapshot, recordSnapshot] = await store.get([ref, recordRef]);
  const before = cache.read(conversationSnapshot);
  if (before?.turn?.epoch !== lease.epoch) return true;
  const stored = recordSnapshot?.data as TurnDocument | undefined;
  const text = stored === undefined ? '' : await storedText(parts, lease.turn_id, stored);
  const nowMs = clock.now();
  const now = new Date(nowMs).toISOString();
  const added =
    text === ''
      ? { conversation: before, writes: [] }
      : appendMessage(ref, before, { role: 'assistant', text, turnId: lease.turn_id, now, partial: true });
  const compacted = await history.compact(ref.id, added.conversation);

  const status = options.reason === 'interrupted' ? 'interrupted' : 'cancelled';
  const end: TurnEnd = { status, usage: stored?.usage ?? NO_USAGE, nowMs, failure: null };
  const { result, snapshots } = await transact(store, [ref, recordRef], ([first, second]) => {
    const current = cache.read(first);
    if (current?.turn?.epoch !== lease.epoch) return { writes: [], result: true };
    if (options.force !== true && !isAbandoned(current.turn, nowMs)) return { writes: [], result: true };
    if (second?.version !== recordSnapshot?.version) return { writes: [], result: false };
    const reason = current.turn.stop ?? options.reason;
    const { recent, chunks, message_count } = compacted.conversation;
    const next = settle({ ...current, recent, chunks, message_count }, { status, usage: end.usage, now });
    const { write } = endedByOther(factsOf(ref, current, lease), stored, end, {
      TurnAborted: { turn_id: lease.turn_id, reason },
    });
    return {
      writes: [{ ref, data: next }, write, ...added.writes, ...compacted.writes, ...withdrawal(status, lease)],
      result: true,
    };
  });
  cache.set(ref, snapshots[0]);
  return result;
}

/** The writes that put an end on record for prompts that leave the queue without having run. */
export function dropQueued(
  ref: Ref,
  conversation: ConversationDocument,
  entries: readonly QueuedPrompt[],
  reason: 'cancelled' | 'expired',
  nowMs: number,
): Write[] {
  const status = reason === 'expired' ? 'interrupted' : 'cancelled';
  return entries.flatMap((entry) => {
    const lease = { ...entry, started_at: entry.enqueued_at };
    const end: TurnEnd = { status, usage: NO_USAGE, nowMs, failure: null };
    const { write } = endedByOther(factsOf(ref, conversation, lease), undefined, end, {
      TurnAborted: { turn_id: entry.turn_id, reason },
    });
    return [write, ...withdrawal(status, entry)];
  });
}

/** A turn that never got to its end must not answer for its idempotency key. */
function withdrawal(status: TurnEnd['status'], turn: { readonly idempotency_id: string | null }): Write[] {
  if (status !== 'interrupted' || turn.idempotency_id === null) return [];
  return [{ ref: { collection: 'idempotency', id: turn.idempotency_id }, delete: true }];
}

function factsOf(ref: Ref, conversation: ConversationDocument, lease: TurnFacts['lease']): TurnFacts {
  return {
    conversation: ref.id,
    sessionId: conversation.session_id,
    conversationId: conversation.conversation_id,
    lease,
  };
}

async function storedText({ store }: RunnerParts, turnId: string, turn: TurnDocument): Promise<string> {
  const sealed = await readSealed(store, turnId, 0, turn.chunks.length);
  return decodeTurn(turn, sealed)
    .map(({ event }) => ('AgentMessageDelta' in event ? event.AgentMessageDelta.delta : ''))
    .join('');
}
