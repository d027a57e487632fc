// conversation.delete: every document of a session goes. First a tombstone (nobody sees or runs the session any more, its owner is
// fenced), then the rest in bounded steps, then the tombstone: a crash in between is finished by the next delete or prompt.
import type { Clock } from '../clock.ts';
import type { Ref, Store, Write } from '../store/store.ts';
import { transact } from '../store/transact.ts';
import {
  type ConversationDocument,
  type MessagesDocument,
  messagesRef,
  type StoredMessage,
  type TurnDocument,
  textRef,
  turnEventsRef,
} from './documents.ts';

const TURNS_PER_STEP = 50;
const WRITES_PER_COMMIT = 200;

/** Hides the session. The turn that was running (null: none), or undefined when there is no such session. */
export async function markDeleted(store: Store, ref: Ref, clock: Clock): Promise<string | null | undefined> {
  const { result } = await transact(store, [ref], ([snapshot]) => {
    const current = snapshot?.data as ConversationDocument | undefined;
    if (current === undefined) return { writes: [], result: undefined };
    if (current.deleted) return { writes: [], result: null };
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
    return { writes: [{ ref, data: tombstone }], result: current.turn?.turn_id ?? null };
  });
  return result;
}

/** Erases everything of a session that is marked deleted, the tombstone last. */
export async function eraseSession(store: Store, ref: Ref): Promise<void> {
  await eraseTurns(store, ref);
  const [snapshot] = await store.get<ConversationDocument>([ref]);
  const conversation = snapshot?.data;
  if (snapshot === undefined || conversation === undefined || !conversation.deleted) return;
  await eraseTexts(store, ref, conversation.recent);
  for (let chunk = 0; chunk < conversation.chunks.length; chunk++) {
    const [messages] = await store.get<MessagesDocument>([messagesRef(ref.id, chunk)]);
    await eraseTexts(store, ref, messages?.data?.messages ?? []);
    await store.commit([{ ref: messagesRef(ref.id, chunk), delete: true }]);
  }
  await store.commit([{ ref, delete: true }]);
}

/** Turn documents are found by their conversation; each goes with its events and its idempotency record. */
async function eraseTurns(store: Store, ref: Ref): Promise<void> {
  for (;;) {
    const turns = await store.query<TurnDocument>({
      collection: 'turns',
      where: { conversation: ref.id },
      orderBy: 'started_at',
      limit: TURNS_PER_STEP,
    });
    if (turns.length === 0) return;
    for (const { ref: turn, data } of turns) {
      if (data === undefined) continue;
      const writes: Write[] = data.chunks.map((_, chunk) => ({ ref: turnEventsRef(turn.id, chunk), delete: true }));
      if (data.idempotency_id !== null) {
        writes.push({ ref: { collection: 'idempotency', id: data.idempotency_id }, delete: true });
      }
      await commitInSteps(store, [...writes, { ref: turn, delete: true }]);
    }
  }
}

async function eraseTexts(store: Store, ref: Ref, messages: readonly StoredMessage[]): Promise<void> {
  const writes = messages.flatMap((message) =>
    Array.from(
      { length: message.parts },
      (_, part): Write => ({ ref: textRef(ref.id, message.seq, part), delete: true }),
    ),
  );
  await commitInSteps(store, writes);
}

async function commitInSteps(store: Store, writes: readonly Write[]): Promise<void> {
  for (let start = 0; start < writes.length; start += WRITES_PER_COMMIT) {
    await store.commit(writes.slice(start, start + WRITES_PER_COMMIT));
  }
}
