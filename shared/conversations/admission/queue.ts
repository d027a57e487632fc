// Prompts that leave a session's queue without having run: each gets an end on record, so that no caller waits for it
// and its idempotency key can be used again where nothing was answered.
import type { Ref, Write } from '../../store/store.ts';
import { transact } from '../../store/transact.ts';
import { NO_USAGE } from '../../usage.ts';
import type { TurnDeps } from '../deps.ts';
import type { OwnerWatch } from '../owner-watch.ts';
import type { ConversationDocument, QueuedPrompt } from '../records/documents.ts';
import { endTurn } from '../turns/end-turn.ts';
import { endedByOther, type TurnEnd } from '../turns/turn-record.ts';

export type DropReason = 'cancelled' | 'expired' | 'interrupted';

/** Takes `entries` out of the queue, with the writes that record the end of each. */
export function dropQueued(
  conversation: ConversationDocument,
  entries: readonly QueuedPrompt[],
  reason: DropReason,
  nowMs: number,
): { readonly conversation: ConversationDocument; readonly writes: readonly Write[] } {
  const status = reason === 'cancelled' ? 'cancelled' : 'interrupted';
  const end: TurnEnd = { status, usage: NO_USAGE, nowMs, failure: null, reason };
  const writes: Write[] = [];
  let left = conversation;
  for (const turn of entries) {
    const lease = { ...turn, started_at: turn.enqueued_at };
    const ended = endTurn(left, {
      turn,
      end,
      record: (stored, [event]) => [endedByOther({ conversation, lease }, undefined, stored, event)],
    });
    left = ended.conversation;
    writes.push(...ended.writes);
  }
  return { conversation: left, writes };
}

/** Drops entries whose waiting instance is gone. */
export function dropExpired(conversation: ConversationDocument, owners: OwnerWatch, nowMs: number): readonly Write[] {
  return dropQueued(
    conversation,
    conversation.queue.filter((entry) => !owners.isWaiting(entry)),
    'expired',
    nowMs,
  ).writes;
}

/** Takes the entries that `leaves` names out of the queue. */
export async function leaveQueue(
  { store, cache, clock }: TurnDeps,
  ref: Ref,
  leaves: (entry: QueuedPrompt) => boolean,
  reason: DropReason,
): Promise<void> {
  const { snapshots } = await transact(store, [ref], ([snapshot]) => {
    const current = cache.read(snapshot);
    const gone = current?.queue.filter(leaves) ?? [];
    if (current === undefined || gone.length === 0) return { writes: [], result: undefined };
    const { conversation, writes } = dropQueued(current, gone, reason, clock.now());
    return { writes: [{ ref, data: conversation }, ...writes], result: undefined };
  });
  cache.set(ref, snapshots[0]);
}
