// conversation.cancel: a flag in the conversation document, seen by the owner through its watch; if the owner does not
// end the turn in time, the canceller does it itself. Either way the caller is answered when the terminal state is on
// record.
import type { Ref } from '../../store/store.ts';
import { transact } from '../../store/transact.ts';
import { dropQueued } from '../admission/queue.ts';
import type { TurnDeps } from '../deps.ts';
import { type ConversationDocument, Conversations, type Lease } from '../records/documents.ts';
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
export async function cancelSession(deps: TurnDeps, ref: Ref, running: RunningTurns): Promise<CancelOutcome> {
  const { store, cache, clock } = deps;
  const { result, snapshots } = await transact(store, [ref], ([snapshot]) => {
    const current = cache.read(snapshot);
    if (current === undefined) return { writes: [], result: undefined };
    const { turn, queue } = current;
    const mustFlag = turn !== null && turn.stop === null && deps.owners.ofLease(turn) !== 'gone';
    if (!mustFlag && queue.length === 0) return { writes: [], result: { current, turn } };
    const { conversation, writes } = dropQueued(current, queue, 'cancelled', clock.now(), []);
    const data: ConversationDocument = mustFlag
      ? { ...conversation, turn: { ...turn, stop: 'cancelled' } }
      : conversation;
    return { writes: [Conversations.write(ref, data), ...writes], result: { current, turn } };
  });
  if (result === undefined) return { kind: 'not_found' };
  cache.set(ref, snapshots[0]);
  const { turn, current } = result;
  if (turn !== null) {
    running.find(turn.turn_id)?.stop('cancelled');
    await awaitStop(deps, ref, turn, 'cancelled');
  }
  return { kind: 'cancelled', conversationId: current.conversation_id, wasRunning: turn !== null };
}

/** Resolves when the turn of `lease` has ended, by its owner or by force. */
export async function awaitStop(
  deps: TurnDeps,
  ref: Ref,
  lease: Lease,
  reason: 'cancelled' | 'replaced',
): Promise<void> {
  if (deps.owners.ofLease(lease) === 'gone') return settleAbandoned(deps, ref, lease, { reason });
  let ended = false;
  await awaitConversation(deps.store, ref, OWNER_ANSWERS_MS, (conversation) => {
    ended = !isHeldBy(conversation?.turn, lease);
    return ended;
  });
  if (!ended) await settleAbandoned(deps, ref, lease, { reason, force: true });
}
