// Erases every document of a session: for conversation.delete, and for a session that has expired. First a tombstone is
// written: no caller finds the session, no instance starts a turn in it, and the new epoch fences a running turn. Then
// the documents are erased in bounded steps, the tombstone last: the next delete or prompt continues after a crash.
import { RunsOnCompanion } from '../engines/place.ts';
import type { Ref, Store, Write } from '../store/store.ts';
import { transact } from '../store/transact.ts';
import { NO_USAGE } from '../usage.ts';
import type { TurnDeps } from './deps.ts';
import {
  type ConversationDocument,
  Conversations,
  conversationRef,
  type Lease,
  Messages,
  messagesRef,
  type StoredMessage,
} from './records/documents.ts';
import { textDeletes } from './records/messages/texts.ts';
import { eraseRollouts } from './records/rollouts.ts';
import { Turns, turnEventsRef } from './records/turn-documents.ts';
import { deleteKey, discardTurns } from './turns/end/end-turn.ts';
import type { RunningTurns } from './turns/running-turns.ts';

const TURNS_PER_STEP = 50;
const WRITES_PER_COMMIT = 200;
const CHUNKS_PER_STEP = 20;

/**
 * Deletes a session; false when there is none. With `canForward`, throws RunsOnCompanion when it has MCP servers or a
 * terminal, which only companions can end.
 */
export async function deleteSession(
  deps: TurnDeps,
  running: RunningTurns,
  {
    owner,
    sessionId,
    canForward,
  }: { readonly owner: string; readonly sessionId: string; readonly canForward: boolean },
): Promise<boolean> {
  const ref = conversationRef(owner, sessionId);
  const marked = await markDeleted(deps, ref, ({ companion = [] }) => {
    if (canForward && companion.length > 0) throw new RunsOnCompanion();
    return true;
  });
  if (marked === undefined) return false;
  await stopLocal(running, marked.lease);
  await eraseSession(deps.store, ref);
  return !marked.isExpired;
}

/** Stops a turn if it runs on this instance, and waits until it has erased what it wrote. */
export async function stopLocal(running: RunningTurns, lease: Lease | null): Promise<void> {
  const local = lease === null ? undefined : running.find(lease.turn_id);
  local?.stop('cancelled');
  await local?.done.catch(() => {});
}

/** Erases a session that is being deleted or has expired; no effect on any other. Returns whether it erased one. */
export async function eraseGone(deps: TurnDeps, ref: Ref): Promise<boolean> {
  const marked = await markDeleted(deps, ref, (conversation) => deps.retention.isExpired(conversation));
  if (marked === undefined) return false;
  await eraseSession(deps.store, ref);
  return true;
}

export interface Marked {
  /** Of the running turn. */
  readonly lease: Lease | null;
  /** Bytes of the session in its owner's total. */
  readonly freedBytes: number;
  readonly owner: string;
  readonly isExpired: boolean;
}

/**
 * Writes the tombstone where `isDue`, and frees the idempotency keys of the turns that ran or waited. Undefined when
 * there is no such session.
 */
export async function markDeleted(
  { store, clock, cache, ledger, retention }: TurnDeps,
  ref: Ref,
  isDue: (conversation: ConversationDocument) => boolean,
): Promise<Marked | undefined> {
  const { result } = await transact<Marked | undefined>(store, [ref], ([snapshot]) => {
    const current = Conversations.read(snapshot);
    if (current === undefined) return { writes: [], result: undefined };
    const isExpired = !current.deleted && retention.isExpired(current);
    const { owner, turn: lease, counted_bytes: freedBytes = 0 } = current;
    if (current.deleted) return { writes: [], result: { lease, freedBytes: 0, owner, isExpired } };
    if (!isDue(current)) return { writes: [], result: undefined };
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
      // If this instance ends before it has erased the session, the sweep does it.
      expires_on: retention.today(),
      ...(lease !== null && { ending: lease }),
    };
    return {
      writes: [Conversations.write(ref, tombstone), ...discardTurns(current)],
      result: { lease, freedBytes, owner, isExpired },
    };
  });
  if (result !== undefined) {
    ledger.add(result.owner, NO_USAGE, -result.freedBytes);
    cache.set(ref, undefined);
  }
  return result;
}

export interface EraseOptions {
  /** When it aborts, the rest of the session is left to another call. */
  readonly signal?: AbortSignal;
  /** Whether the tombstone may go. Default: yes. */
  readonly mayForget?: (tombstone: ConversationDocument) => boolean;
}

/**
 * Erases everything of a session that is marked deleted, the tombstone last. Parallel calls are safe. Returns whether
 * nothing is left.
 */
export async function eraseSession(
  store: Store,
  ref: Ref,
  { signal, mayForget = () => true }: EraseOptions = {},
): Promise<boolean> {
  const [snapshot] = await store.get([ref]);
  const conversation = Conversations.read(snapshot);
  if (conversation?.deleted !== true) return true;
  const id = conversation.conversation_id;
  await eraseTurns(store, id);
  await eraseRollouts(store, id);
  if (!(await eraseMessages(store, conversation, signal))) return false;
  const { result } = await transact(store, [ref], ([last]) => {
    const tombstone = Conversations.read(last);
    // Another call has erased the document, and a prompt may have created the session again.
    if (tombstone?.deleted !== true || tombstone.conversation_id !== id) return { writes: [], result: true };
    const isErased = mayForget(tombstone);
    return { writes: isErased ? [{ ref, delete: true }] : [], result: isErased };
  });
  return result;
}

/** Erases the documents of messages, dropped ones included; false if `signal` aborted before the end. */
export async function eraseMessages(
  store: Store,
  { conversation_id: id, recent, chunks }: ConversationDocument,
  signal?: AbortSignal,
): Promise<boolean> {
  await eraseTexts(store, id, recent);
  for (let chunk = 0; chunk < chunks.length; chunk += CHUNKS_PER_STEP) {
    if (signal?.aborted) return false;
    const count = Math.min(CHUNKS_PER_STEP, chunks.length - chunk);
    const refs = Array.from({ length: count }, (_, index) => messagesRef(id, chunk + index));
    for (const messages of await store.get(refs)) await eraseTexts(store, id, Messages.read(messages)?.messages ?? []);
    await store.commit(refs.map((ref) => ({ ref, delete: true })));
  }
  return true;
}

/** Erases one turn and its events, also those that its owner wrote after the session was deleted. */
export async function eraseTurn(store: Store, turnId: string, chunks: number): Promise<void> {
  const events = Array.from(
    { length: chunks },
    (_, chunk): Write => ({ ref: turnEventsRef(turnId, chunk), delete: true }),
  );
  await commitInSteps(store, [...events, { ref: Turns.ref(turnId), delete: true }]);
}

/** Turn documents are found by their conversation; each goes with its events and its idempotency record. */
async function eraseTurns(store: Store, conversation: string): Promise<void> {
  for (;;) {
    const order = { orderBy: 'started_at', limit: TURNS_PER_STEP, withExpired: true } as const;
    const turns = await store.query(Turns.query({ where: { conversation }, ...order }));
    for (const snapshot of turns) {
      const turn = Turns.read(snapshot);
      if (turn === undefined) continue;
      if (turn.idempotency_id !== null) await store.commit([deleteKey(turn.idempotency_id)]);
      await eraseTurn(store, snapshot.ref.id, turn.chunks.length);
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
