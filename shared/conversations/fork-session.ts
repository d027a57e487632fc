// conversation.fork: a new session with a copy of the messages of another one. A copy that fits into one commit is made
// by it. For a longer one a tombstone is stored first: the session looks absent while its messages are copied, and if
// this instance ends, the next call that names the session, or the sweep, erases what was copied.
import { nextHeavyTurn, pause } from '../async.ts';
import type { Ids } from '../clock.ts';
import { RpcError } from '../errors.ts';
import { Conflict, type Ref, type Snapshot, type Write } from '../store/store.ts';
import { NO_USAGE } from '../usage.ts';
import type { TurnDeps } from './deps.ts';
import { eraseGone, eraseMessages } from './erase.ts';
import { type ConversationDocument, Conversations, conversationRef } from './records/documents.ts';
import { copiedMembers, SourceChanged } from './records/messages/copy-messages.ts';
import { dropMessages } from './records/messages/drop-messages.ts';
import { storageFull, storageRef } from './records/storage.ts';
import { newConversation } from './turns/lease.ts';

/** Most bytes of messages that one call copies. */
const BYTES_MAX = 64 << 20;
/** Most attempts while other calls change the messages of the source, or erase the new session. */
const ROUNDS_MAX = 5;
/** Most milliseconds before the last commit is repeated, times the number of its attempts. */
const PAUSE_MS = 50;

export interface ForkParams {
  readonly owner: string;
  readonly sessionId: string;
  /** The number of the last message that is copied; undefined: all are. */
  readonly toSeq: number | undefined;
  readonly newSessionId: string;
}

export interface ForkDeps extends TurnDeps {
  readonly ids: Ids;
}

/** Throws `not_found`, `conflict`, `invalid_params` and `storage_full` before anything is stored. */
export async function forkSession(
  deps: ForkDeps,
  params: ForkParams,
  signal: AbortSignal,
): Promise<ConversationDocument> {
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const forked = await tryFork(deps, params, signal);
    if (forked !== undefined) return forked;
  }
  throw new RpcError('unavailable', {
    message: 'other calls keep changing the session: send the call again',
    retryAfterMs: 1_000,
  });
}

/** Undefined if the source or the new session was changed meanwhile. */
async function tryFork(deps: ForkDeps, params: ForkParams, signal: AbortSignal) {
  const { store, cache, history, ledger } = deps;
  const { owner, sessionId, newSessionId } = params;
  const refs = [conversationRef(owner, sessionId), conversationRef(owner, newSessionId)] as const;
  const [sourceRef, ref] = refs;
  const [found, target, total] = await store.get([...refs, storageRef(owner)]);
  const whole = cache.read(found);
  if (whole === undefined)
    throw new RpcError('not_found', { message: 'no such session', data: { session_id: sessionId } });
  if (cache.read(target) !== undefined) throw taken(newSessionId);
  const source = upTo(whole, params.toSeq);
  const bytes = await history.countBytes(source);
  if (bytes > BYTES_MAX) {
    const message = `the messages have ${bytes} bytes; a fork has at most ${BYTES_MAX}, choose a lower number`;
    throw new RpcError('invalid_params', { data: { issues: [{ path: 'to_seq', message }] } });
  }
  const stored = ledger.cacheTotal(owner, total);
  if (stored + bytes > deps.storageBytesMax) throw storageFull(stored, deps.storageBytesMax);
  if (target?.version) {
    await eraseGone(deps, ref);
    return undefined;
  }
  const fork = toFork(deps, params, source, bytes);
  /** The write that requires the source as it is: no fork is stored after its source was deleted. */
  const requireSource = async (): Promise<Write | undefined> => {
    const [now] = await store.get([sourceRef]);
    const current = cache.read(now);
    const isSame = hasMessagesOf(current, { ...source, branch: whole.branch });
    if (!isSame || current === undefined || !now?.version) return undefined;
    return Conversations.write(sourceRef, current, { if: { version: now.version } });
  };
  const isForked = await copy(deps, { ref, fork, source, requireSource, signal });
  if (!isForked) return undefined;
  cache.set(ref, undefined);
  ledger.add(owner, NO_USAGE, bytes);
  return fork;
}

interface Copy {
  readonly ref: Ref;
  readonly fork: ConversationDocument;
  readonly source: ConversationDocument;
  /** Undefined if the copied messages have been dropped or erased. */
  readonly requireSource: () => Promise<Write | undefined>;
  readonly signal: AbortSignal;
}

/** False if the source has changed, or another call has created or erased the new session. */
async function copy(deps: ForkDeps, { ref, fork, source, requireSource, signal }: Copy): Promise<boolean> {
  const { store, history } = deps;
  const steps = history.copy(source, fork.conversation_id);
  let claimed: Snapshot['version'] | undefined;
  /** Whether the fork is visible, or may be: the answer of the last commit may be lost. */
  let mayBeVisible = false;
  try {
    let held: readonly Write[] = [];
    for await (const step of steps) {
      signal.throwIfAborted();
      await nextHeavyTurn();
      if (held.length > 0) {
        claimed ??= await claim(deps, ref, fork);
        await store.commit(held);
      }
      held = step;
    }
    mayBeVisible = true;
    mayBeVisible = await commitLast(deps, { ref, fork, claimed, held, requireSource });
    return mayBeVisible;
  } catch (error) {
    if (!(error instanceof Conflict || error instanceof SourceChanged)) throw error;
    mayBeVisible = false;
    return false;
  } finally {
    // If the last commit has no answer and was not applied, the tombstone is left to the sweep.
    if (claimed && !mayBeVisible) await discard(deps, ref, fork, claimed);
  }
}

interface Last extends Pick<Copy, 'ref' | 'fork' | 'requireSource'> {
  readonly claimed: Snapshot['version'] | undefined;
  readonly held: readonly Write[];
}

/**
 * The commit that makes the fork visible. Other forks, and other calls that change the document of the source but not
 * its messages, cause a conflict, after which only this commit is repeated.
 */
async function commitLast({ store }: ForkDeps, { ref, fork, claimed, held, requireSource }: Last): Promise<boolean> {
  const condition = claimed ? { version: claimed } : ('absent' as const);
  for (let round = 1; ; round++) {
    const required = await requireSource();
    if (required === undefined) return false;
    try {
      await store.commit([Conversations.write(ref, fork, { if: condition }), required, ...held]);
      return true;
    } catch (error) {
      if (error instanceof Conflict && round === ROUNDS_MAX) throw error;
      const [target] = await store.get([ref]);
      // The answer of a commit that was applied is lost: without this, the fork would not be counted.
      const { conversation_id, deleted } = Conversations.read(target) ?? {};
      if (conversation_id === fork.conversation_id && deleted !== true) return true;
      if (!(error instanceof Conflict) || (target?.version ?? null) !== (claimed ?? null)) throw error;
      await pause(Math.random() * PAUSE_MS * round);
    }
  }
}

/** Stores the tombstone with what its erasure needs; its version is the condition of the last commit. */
async function claim({ store, retention }: ForkDeps, ref: Ref, fork: ConversationDocument) {
  const tombstone = { ...fork, owner: '', deleted: true, expires_on: retention.today() };
  const [version] = await store.commit([Conversations.write(ref, tombstone, { if: 'absent' })]);
  return version ?? null;
}

async function discard({ store }: ForkDeps, ref: Ref, fork: ConversationDocument, version: string): Promise<void> {
  await eraseMessages(store, fork);
  await store.commit([{ ref, delete: true, if: { version } }]).catch((error: unknown) => {
    // Another call has erased it.
    if (!(error instanceof Conflict)) throw error;
  });
}

function upTo(source: ConversationDocument, toSeq: number | undefined): ConversationDocument {
  const { message_count } = source;
  if (toSeq === undefined || toSeq === message_count) return source;
  if (toSeq < message_count) return dropMessages(source, toSeq, '').conversation;
  const message = `must be at most ${message_count}, the number of the last message of the session`;
  throw new RpcError('invalid_params', { data: { issues: [{ path: 'to_seq', message }] } });
}

function toFork(
  { ids, clock, retention }: ForkDeps,
  { owner, newSessionId }: ForkParams,
  source: ConversationDocument,
  bytes: number,
): ConversationDocument {
  const now = new Date(clock.now()).toISOString();
  const { title, default_title, metadata, labels, retention_days, budgets } = source;
  return retention.stamp({
    ...newConversation(owner, newSessionId, ids.next('conv'), source.model, now),
    ...copiedMembers(source),
    stored_bytes: bytes,
    counted_bytes: bytes,
    ...(title !== undefined && { title }),
    ...(default_title !== undefined && { default_title }),
    ...(metadata !== undefined && { metadata }),
    ...(labels !== undefined && { labels }),
    ...(retention_days !== undefined && { retention_days }),
    ...(budgets !== undefined && { budgets }),
  });
}

/**
 * Whether `now` still contains the messages of `before`: they were neither dropped nor replaced by a repeated prompt.
 */
function hasMessagesOf(
  now: ConversationDocument | undefined,
  before: Pick<ConversationDocument, 'conversation_id' | 'message_count' | 'recent'> & { readonly branch: unknown },
): boolean {
  const isSame = now?.conversation_id === before.conversation_id && now.branch === before.branch;
  if (!isSame || now.message_count < before.message_count) return false;
  const inDocument = new Map(now.recent.map((message) => [message.seq, message]));
  const firstSeq = now.recent[0]?.seq ?? now.message_count + 1;
  return before.recent.every(({ seq, turn_id, bytes }) => {
    const same = inDocument.get(seq);
    return seq < firstSeq || (same?.turn_id === turn_id && same.bytes === bytes);
  });
}

function taken(sessionId: string): RpcError {
  return new RpcError('conflict', {
    message: 'Conflict: a session with this name exists; choose another new_session_id',
    data: { session_id: sessionId },
    retryable: false,
  });
}
