// Erases all sessions of an owner, for owner.erase. First every session is marked deleted, which stops its turn on any
// instance. A tombstone stays until the instance of that turn has erased what it wrote after the mark, or its lease has
// expired: then nothing can be written any more. All state is in the store, so any call goes on where another stopped.
import { errorFields } from '../log.ts';
import type { Query, Ref, Snapshot } from '../store/store.ts';
import { transact } from '../store/transact.ts';
import type { TurnDeps } from './deps.ts';
import { eraseSession, markDeleted, stopLocal } from './erase.ts';
import { type ConversationDocument, Conversations, hashId } from './records/documents.ts';
import { awaitConversation } from './turns/await-document.ts';
import type { RunningTurns } from './turns/running-turns.ts';

/** Sessions that one query returns; each contains its newest messages. */
const STEP = 20;
/** The instance of a running turn reacts to the mark within this time. */
const OWNER_STOPS_MS = 3_000;

/** Returns the number of sessions that were marked, and whether nothing is left. Stops when `signal` aborts. */
export async function eraseSessionsOf(
  deps: TurnDeps,
  running: RunningTurns,
  owner: string,
  signal: AbortSignal,
): Promise<{ readonly sessions: number; readonly isDone: boolean }> {
  let sessions = 0;
  for (let isMore = true; isMore; ) {
    if (signal.aborted) return { sessions, isDone: false };
    const found = await ownedBy(deps, owner);
    const marked = await Promise.all(found.map(({ ref }) => markDeleted(deps, ref, () => true)));
    sessions += found.length;
    for (const mark of marked) await stopLocal(running, mark?.lease ?? null);
    isMore = found.length === STEP;
  }
  const isErased = await eraseTombstones(deps, owner, signal);
  return { sessions, isDone: isErased && (await ownedBy(deps, owner)).length === 0 };
}

/** Erases the sessions of the owner that are marked deleted; also those that another call has left. */
async function eraseTombstones(deps: TurnDeps, owner: string, signal: AbortSignal): Promise<boolean> {
  let isDone = true;
  for (let after: Query['after']; ; ) {
    const found = await ownedBy(deps, '', after);
    for (const { ref } of found.filter((snapshot) => isTombstoneOf(snapshot, owner))) {
      if (signal.aborted) return false;
      await awaitOwner(deps, ref);
      const mayForget = (tombstone: ConversationDocument): boolean => !isStillWritten(deps, tombstone);
      isDone = (await eraseSession(deps.store, ref, { signal, mayForget })) && isDone;
    }
    const last = found.at(-1);
    const value = Conversations.read(last)?.created_at;
    if (found.length < STEP || last === undefined || value === undefined) return isDone;
    after = { value, id: last.ref.id };
  }
}

/** Tombstones have no owner; the id of the document is the hash of its owner and its session. */
function isTombstoneOf(snapshot: Snapshot, owner: string): boolean {
  const document = Conversations.readKnown(snapshot);
  return document?.deleted === true && hashId(owner, document.session_id) === snapshot.ref.id;
}

/** Waits for the instance of a turn that ran when the session was marked, for a limited time. */
async function awaitOwner({ store, owners }: TurnDeps, ref: Ref): Promise<void> {
  const isOver = (current: ConversationDocument | undefined): boolean =>
    current?.ending === undefined || owners.ofLease(current.ending) === 'expired';
  await awaitConversation(store, ref, OWNER_STOPS_MS, isOver);
}

function isStillWritten({ owners }: TurnDeps, { ending }: ConversationDocument): boolean {
  return ending !== undefined && owners.ofLease(ending) !== 'expired';
}

/** For the instance of a turn whose session was deleted: it has erased what it wrote. */
export async function confirmEnd(
  { store, log }: Pick<TurnDeps, 'store' | 'log'>,
  ref: Ref,
  turnId: string,
): Promise<void> {
  const confirm = transact(store, [ref], ([snapshot]) => {
    const tombstone = Conversations.read(snapshot);
    if (tombstone?.ending?.turn_id !== turnId) return { writes: [], result: undefined };
    const { ending: _, ...confirmed } = tombstone;
    return { writes: [Conversations.write(ref, confirmed)], result: undefined };
  });
  // Without it, the tombstone stays until the lease has expired.
  await confirm.catch((error: unknown) => log.warn('the end of an erased turn is not confirmed', errorFields(error)));
}

function ownedBy({ store }: TurnDeps, owner: string, after?: Query['after']): Promise<Snapshot[]> {
  const order = { orderBy: 'created_at', limit: STEP, withExpired: true } as const;
  return store.query(Conversations.query({ where: { owner }, ...order, ...(after && { after }) }));
}
