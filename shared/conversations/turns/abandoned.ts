// Ends a turn that its owner cannot end: the lease expired, or the owner does not answer a stop request. What the owner
// had stored of the answer is kept in the history.

import { RpcError } from '../../errors.ts';
import type { Ref } from '../../store/store.ts';
import { transact } from '../../store/transact.ts';
import { type AbortReason, answerText } from '../../turn-events.ts';
import { estimateUsage } from '../../usage.ts';
import { releaseKey } from '../admission/queue.ts';
import type { TurnParts } from '../deps.ts';
import { type Lease, type TurnDocument, turnRef } from '../records/documents.ts';
import type { NumberedEvent } from '../records/event-log.ts';
import { appendMessage } from '../records/history.ts';
import { withCounted } from '../storage.ts';
import { isHeldBy, settle } from './lease.ts';
import { decodeTurn, endedByOther, readSealed, type TurnEnd } from './turn-record.ts';

const ROUNDS_MAX = 5;

export interface AbandonedOptions {
  readonly reason: Extract<AbortReason, 'cancelled' | 'replaced' | 'interrupted'>;
  /**
   * End it although the lease is still valid: the owner was asked to stop and did not answer. It is fenced by the
   * epoch.
   */
  readonly force?: boolean;
}

type Settled = 'gone' | 'changed' | { readonly addedBytes: number };

/** Settles the turn of `lease` unless another instance has done so, or its owner lives. */
export async function settleAbandoned(
  parts: TurnParts,
  ref: Ref,
  lease: Lease,
  options: AbandonedOptions,
): Promise<void> {
  for (let round = 0; round < ROUNDS_MAX; round++) {
    if (await trySettle(parts, ref, lease, options)) return;
  }
  throw new RpcError('unavailable', { message: 'the turn before is still being settled', retryAfterMs: 1_000 });
}

/** False when the turn's record changed between the reads and the commit: its owner lives and has written. */
async function trySettle(parts: TurnParts, ref: Ref, lease: Lease, options: AbandonedOptions): Promise<boolean> {
  const { store, clock, history, cache, ledger, log } = parts;
  const recordRef = turnRef(lease.turn_id);
  const [conversationSnapshot, recordSnapshot] = await store.get([ref, recordRef]);
  const before = cache.read(conversationSnapshot);
  if (before === undefined || !isHeldBy(before.turn, lease)) return true;
  const stored = recordSnapshot?.data as TurnDocument | undefined;
  const { text, usage } = await storedAnswer(parts, lease.turn_id, stored);
  const nowMs = clock.now();
  const now = new Date(nowMs).toISOString();
  const added =
    text === ''
      ? { conversation: before, writes: [] }
      : appendMessage(before, { role: 'assistant', text, turnId: lease.turn_id, now, partial: true });
  const compacted = await history.compact(added.conversation);

  const { result, snapshots } = await transact<Settled>(store, [ref, recordRef], ([first, second]) => {
    const current = cache.read(first);
    if (current === undefined || !isHeldBy(current.turn, lease)) return { writes: [], result: 'gone' as const };
    if (options.force !== true && parts.owners.ofLease(current.turn) !== 'gone')
      return { writes: [], result: 'gone' as const };
    if (second?.version !== recordSnapshot?.version) return { writes: [], result: 'changed' as const };
    // The caller that asked the owner to stop has been promised that end.
    const reason = current.turn.stop ?? options.reason;
    const status = reason === 'interrupted' ? 'interrupted' : 'cancelled';
    const end: TurnEnd = { status, usage, nowMs, failure: null };
    const { recent, chunks, message_count, stored_bytes } = compacted.conversation;
    const grown = { ...current, recent, chunks, message_count, ...(stored_bytes !== undefined && { stored_bytes }) };
    const { counted, addedBytes } = withCounted(grown);
    const next = settle(counted, { status, usage, now });
    const record = endedByOther({ conversation: current, lease }, stored, end, {
      TurnAborted: { turn_id: lease.turn_id, reason },
    });
    return {
      writes: [
        { ref, data: next },
        record,
        ...added.writes,
        ...compacted.writes,
        ...releaseKey(current, end, current.turn),
      ],
      result: { addedBytes },
    };
  });
  cache.set(ref, snapshots[0]);
  if (typeof result === 'object') {
    ledger.add(before.owner, usage, result.addedBytes);
    log.warn('turn ended for an owner that did not answer', {
      turn_id: lease.turn_id,
      reason: options.reason,
    });
  }
  return result !== 'changed';
}

/** What the owner had stored of its answer, and about what that has cost. */
async function storedAnswer({ store }: TurnParts, turnId: string, turn: TurnDocument | undefined) {
  const events = turn === undefined ? [] : decodeTurn(turn, await readSealed(store, turnId, 0, turn.chunks.length));
  const text = answerText(events);
  return { text, usage: estimateUsage(contextTokens(events), text) };
}

function contextTokens(events: readonly NumberedEvent[]): number {
  const [first] = events;
  return first !== undefined && 'TaskStarted' in first.event ? first.event.TaskStarted.context.tokens : 0;
}
