// conversation.delete: every document of a session goes. First a tombstone (no caller sees the session and no instance
// runs it any more, its owner is fenced), then the rest in bounded steps, then the tombstone: a crash in between is
// finished by the next delete or prompt.
import type { Clock } from '../clock.ts';
import { NeedsCompanion } from '../engines/needs-companion.ts';
import { Conflict, type Ref, type Store, type Write } from '../store/store.ts';
import { transact } from '../store/transact.ts';
import {
  type ConversationDocument,
  type Lease,
  type MessagesDocument,
  messagesRef,
  type StoredMessage,
  type TurnDocument,
  turnEventsRef,
  turnRef,
} from './records/documents.ts';
import { eraseRollouts } from './records/rollouts.ts';
import { textDeletes } from './records/texts.ts';
import { deleteKey, discardTurns } from './turns/end-turn.ts';

const TURNS_PER_STEP = 50;
const WRITES_PER_COMMIT = 200;

/**
 * Hides the session, and lets go of the idempotency keys of what ran and waited in it. The turn that was running (null:
 * none) and the bytes that the owner's total has of it, or undefined when there is no such session. With `canForward`,
 * throws NeedsCompanion when the companion must end something of it.
 */
export async function markDeleted(
  store: Store,
  ref: Ref,
  clock: Clock,
  canForward: boolean,
): Promise<{ readonly lease: Lease | null; readonly freedBytes: number } | undefined> {
  const { result } = await transact(store, [ref], ([snapshot]) => {
    const current = snapshot?.data as ConversationDocument | undefined;
    if (current === undefined) return { writes: [], result: undefined };
    if (current.deleted) return { writes: [], result: { lease: null, freedBytes: 0 } };
    if (canForward && (current.companion?.length ?? 0) > 0) throw new NeedsCompanion();
    const tombstone: ConversationDocument = {
      ...current,
      owner: '',
      deleted: true,
      epoch: current.epoch + 1,
      turn: null,
      last_turn: null,
      queue: [],
      status: 'idle',
      updated_at: new Date(clock.now()).toISOString(),
    };
    return {
      writes: [{ ref, data: tombstone }, ...discardTurns(current)],
      result: { lease: current.turn, freedBytes: current.counted_bytes ?? 0 },
    };
  });
  return result;
}

/** Erases everything of a session that is marked deleted, the tombstone last. Several may do so at once. */
export async function eraseSession(store: Store, ref: Ref): Promise<void> {
  const [snapshot] = await store.get<ConversationDocument>([ref]);
  const conversation = snapshot?.data;
  if (!snapshot?.version || conversation === undefined || !conversation.deleted) return;
  const id = conversation.conversation_id;
  await eraseTurns(store, id);
  await eraseRollouts(store, id);
  await eraseTexts(store, id, conversation.recent);
  for (let chunk = 0; chunk < conversation.chunks.length; chunk++) {
    const [messages] = await store.get<MessagesDocument>([messagesRef(id, chunk)]);
    await eraseTexts(store, id, messages?.data?.messages ?? []);
    await store.commit([{ ref: messagesRef(id, chunk), delete: true }]);
  }
  try {
    await store.commit([{ ref, delete: true, if: { version: snapshot.version } }]);
  } catch (error) {
    // Another call was faster, and the session may exist again already.
    if (!(error instanceof Conflict)) throw error;
  }
}

/** Erases one turn and its events: what an owner has left behind that did not know yet that its session is gone. */
export async function eraseTurn(store: Store, turnId: string, chunks: number): Promise<void> {
  const events = Array.from(
    { length: chunks },
    (_, chunk): Write => ({ ref: turnEventsRef(turnId, chunk), delete: true }),
  );
  await commitInSteps(store, [...events, { ref: turnRef(turnId), delete: true }]);
}

/** Turn documents are found by their conversation; each goes with its events and its idempotency record. */
async function eraseTurns(store: Store, conversation: string): Promise<void> {
  for (;;) {
    const turns = await store.query<TurnDocument>({
      collection: 'turns',
      where: { conversation },
      orderBy: 'started_at',
      limit: TURNS_PER_STEP,
    });
    for (const { ref, data } of turns) {
      if (data === undefined) continue;
      if (data.idempotency_id !== null) await store.commit([deleteKey(data.idempotency_id)]);
      await eraseTurn(store, ref.id, data.chunks.length);
    }
    if (turns.length < TURNS_PER_STEP) return;
  }
}

async function eraseTexts(store: Store, conversation: string, messages: readonly StoredMessage[]): Promise<void> {
  const writes = messages.flatMap((message) => textDeletes(conversation, message));
  await commitInSteps(store, writes);
}

async function commitInSteps(store: Store, writes: readonly Write[]): Promise<void> {
  for (let start = 0; start < writes.length; start += WRITES_PER_COMMIT) {
    await store.commit(writes.slice(start, start + WRITES_PER_COMMIT));
  }
}
