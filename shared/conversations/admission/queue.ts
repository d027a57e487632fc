// Prompts that leave a session's queue without having run. The end of each is stored, so that no caller waits for it
// and its idempotency key can be used again.
import { RpcError } from '../../errors.ts';
import type { Ref, Snapshot, Write } from '../../store/store.ts';
import { transact } from '../../store/transact.ts';
import { NO_USAGE } from '../../usage.ts';
import type { TurnDeps } from '../deps.ts';
import { type ConversationDocument, Conversations, type QueuedPrompt } from '../records/documents.ts';
import { endTurn, keyRefsOf } from '../turns/end/end-turn.ts';
import { endedByOther, type TurnEnd } from '../turns/turn-record.ts';

/** Most attempts while other prompts join the queue. */
const ROUNDS_MAX = 5;

export type DropReason = 'cancelled' | 'expired' | 'interrupted';

/**
 * Removes `entries` from the queue and returns the writes that store the end of each. `keys`: their idempotency
 * records, as they were read; not needed for cancelled prompts, which keep their keys.
 */
export function dropQueued(
  conversation: ConversationDocument,
  entries: readonly QueuedPrompt[],
  reason: DropReason,
  nowMs: number,
  keys: readonly Snapshot[],
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
      keys,
      record: (stored, [event]) => [endedByOther({ conversation, lease }, undefined, stored, event)],
    });
    left = ended.conversation;
    writes.push(...ended.writes);
  }
  return { conversation: left, writes };
}

/** Removes the entries for which `leaves` returns true from the queue. */
export async function leaveQueue(
  { store, cache, clock }: TurnDeps,
  ref: Ref,
  leaves: (entry: QueuedPrompt) => boolean,
  reason: DropReason,
): Promise<void> {
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const [seen] = await store.get([ref]);
    const entries = cache.read(seen)?.queue.filter(leaves) ?? [];
    if (entries.length === 0) return;
    const { result, snapshots } = await transact(store, [ref, ...keyRefsOf(entries)], ([snapshot, ...keys]) => {
      const current = cache.read(snapshot);
      const gone = current?.queue.filter(leaves) ?? [];
      if (current === undefined || gone.length === 0) return { writes: [], result: true };
      // An entry that joined the queue since the read: its idempotency record must be read too.
      if (gone.some(({ turn_id }) => !entries.some((entry) => entry.turn_id === turn_id))) {
        return { writes: [], result: false };
      }
      const { conversation, writes } = dropQueued(current, gone, reason, clock.now(), keys);
      return { writes: [Conversations.write(ref, conversation), ...writes], result: true };
    });
    cache.set(ref, snapshots[0]);
    if (result) return;
  }
  throw new RpcError('unavailable', {
    message: 'other calls keep changing the queue of the session: send the call again',
    retryAfterMs: 1_000,
  });
}
