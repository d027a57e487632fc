// conversation.cancel writes a stop request to the conversation document, which the owner receives through its watch.
// If the owner does not end the turn in time, this instance does. The caller is answered when the terminal state is
// stored.
import type { Ref } from '../../store/store.ts';
import { transact } from '../../store/transact.ts';
import { dropQueued } from '../admission/queue.ts';
import type { TurnDeps } from '../deps.ts';
import { type ConversationDocument, Conversations, type Lease } from '../records/documents.ts';
import { awaitConversation } from './await-document.ts';
import { settleAbandoned } from './end/abandoned.ts';
import { isHeldBy } from './lease.ts';
import type { RunningTurns } from './running-turns.ts';

/** A running owner ends its turn within milliseconds of the stop request; after this time this instance ends it. */
const OWNER_STOPS_MS = 1_500;

export type CancelOutcome =
  | { readonly kind: 'not_found' }
  | { readonly kind: 'cancelled'; readonly conversationId: string; readonly wasRunning: boolean };

/** Cancels the running turn and all queued prompts. Idempotent; the session stays usable. */
export async function cancelSession(deps: TurnDeps, ref: Ref, running: RunningTurns): Promise<CancelOutcome> {
  const { store, cache, clock } = deps;
  const { result, snapshots } = await transact(store, [ref], ([snapshot]) => {
    const current = cache.read(snapshot);
    if (current === undefined) return { writes: [], result: undefined };
    const { turn, queue } = current;
    const mustStop = turn !== null && turn.stop === null && deps.owners.ofLease(turn) !== 'expired';
    if (!mustStop && queue.length === 0) return { writes: [], result: { current, turn } };
    const { conversation, writes } = dropQueued(current, queue, 'cancelled', clock.now(), []);
    const data: ConversationDocument = mustStop
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
  if (deps.owners.ofLease(lease) === 'expired') return settleAbandoned(deps, ref, lease, { reason });
  let ended = false;
  await awaitConversation(deps.store, ref, OWNER_STOPS_MS, (conversation) => {
    ended = !isHeldBy(conversation?.turn, lease);
    return ended;
  });
  if (!ended) await settleAbandoned(deps, ref, lease, { reason, force: true });
}
