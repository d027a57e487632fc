// conversation.cancel: a flag in the conversation document, seen by the owner through its watch; if the owner does not
// end the turn in time, the canceller does it itself. Either way the caller is answered when the terminal state is on
// record.
import type { Ref } from '../../store/store.ts';
import { transact } from '../../store/transact.ts';
import { dropQueued } from '../admission/queue.ts';
import type { TurnParts } from '../deps.ts';
import type { ConversationDocument, Lease } from '../records/documents.ts';
import { settleAbandoned } from './abandoned.ts';
import { awaitConversation } from './await-conversation.ts';
import { isHeldBy } from './lease.ts';
import type { RunningTurns } from './running-turns.ts';

/** An owner that lives ends its turn within milliseconds of the flag; past this the turn is ended for it. */
const OWNER_ANSWERS_MS = 1_500;

export type CancelOutcome =
  | { readonly kind: 'not_found' }
  | { readonly kind: 'cancelled'; readonly conversationId: string; readonly wasRunning: boolean };

/** Cancels the running turn and everything queued behind it. Idempotent; the session stays usable. */
export async function cancelSession(parts: TurnParts, ref: Ref, running: RunningTurns): Promise<CancelOutcome> {
  const { store, cache, clock } = parts;
  const { result, snapshots } = await transact(store, [ref], ([snapshot]) => {
    const current = cache.read(snapshot);
    if (current === undefined) return { writes: [], result: undefined };
    const { turn, queue } = current;
    const mustFlag = turn !== null && turn.stop === null && parts.owners.ofLease(turn) !== 'gone';
    if (!mustFlag && queue.length === 0) return { writes: [], result: { current, turn } };
    const next: ConversationDocument = {
      ...current,
      turn: mustFlag ? { ...turn, stop: 'cancelled' } : turn,
      queue: [],
    };
    return {
      writes: [{ ref, data: next }, ...dropQueued(current, queue, 'cancelled', clock.now())],
      result: { current, turn },
    };
  });
  if (result === undefined) return { kind: 'not_found' };
  cache.set(ref, snapshots[0]);
  const { turn, current } = result;
  if (turn !== null) {
    running.find(turn.turn_id)?.stop('cancelled');
    await awaitStop(parts, ref, turn, 'cancelled');
  }
  return { kind: 'cancelled', conversationId: current.conversation_id, wasRunning: turn !== null };
}

/** Resolves when the turn of `lease` has ended, by its owner or by force. */
export async function awaitStop(
  parts: TurnParts,
  ref: Ref,
  lease: Lease,
  reason: 'cancelled' | 'replaced',
): Promise<void> {
  if (parts.owners.ofLease(lease) === 'gone') return settleAbandoned(parts, ref, lease, { reason });
  let ended = false;
  await awaitConversation(parts.store, ref, OWNER_ANSWERS_MS, (conversation) => {
    ended = !isHeldBy(conversation?.turn, lease);
    return ended;
  });
  if (!ended) await settleAbandoned(parts, ref, lease, { reason, force: true });
}
