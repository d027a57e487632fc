// Finds a session of the caller, a turn of that session, and the state of the turn. A session or turn that belongs to
// another key, is erased or has expired is not found; the message is the same for all of them. This file never writes.
import { RpcError } from '../../../errors.ts';
import type { Ref, Snapshot, Store } from '../../../store/store.ts';
import type { Usage } from '../../../turn-events.ts';
import type { TurnDeps } from '../../deps.ts';
import {
  type ConversationDocument,
  Conversations,
  conversationRef,
  type Lease,
  type TurnStatus,
} from '../../records/documents.ts';
import type { NumberedEvent } from '../../records/event-log.ts';
import { type Metadata, toLabel } from '../../records/session-fields.ts';
import { type TurnDocument, Turns } from '../../records/turn-documents.ts';
import { awaitDocument } from '../await-document.ts';
import { decodeTurn, readSealed } from '../turn-record.ts';

export interface FoundConversation {
  readonly ref: Ref;
  readonly conversation: ConversationDocument;
  /** The document as it was read. */
  readonly snapshot: Snapshot | undefined;
}

export interface LocatedTurn extends FoundConversation {
  readonly turnId: string;
}

/** The state of a turn at one moment. */
export interface TurnSnapshot {
  readonly sessionId: string;
  readonly conversationId: string;
  readonly turnId: string;
  /** The lease under which it runs on another instance; null for any other turn. */
  readonly lease: Lease | null;
  readonly status: TurnStatus;
  readonly events: readonly NumberedEvent[];
  /** Undefined while the turn runs. */
  readonly usage: Usage | undefined;
  readonly last_event: TurnDocument['last_event'];
}

type ReadDeps = Pick<TurnDeps, 'store' | 'cache'>;

/** The session's document; undefined when it is missing, another key's, expired or being erased. */
export async function findConversation(
  { store, cache }: ReadDeps,
  owner: string,
  sessionId: string,
): Promise<FoundConversation | undefined> {
  const ref = conversationRef(owner, sessionId);
  const [snapshot] = await store.get([ref]);
  const conversation = cache.read(snapshot);
  return conversation && { ref, conversation, snapshot };
}

export interface ListedPage {
  readonly after?: { readonly value: string; readonly id: string } | undefined;
  readonly limit: number;
  /** Only sessions with the first of these pairs; the caller checks the others. */
  readonly metadata?: Metadata | undefined;
}

export interface ListedSession {
  readonly id: string;
  readonly conversation: ConversationDocument;
  /** It is not erased yet, and absent for the caller. */
  readonly isExpired: boolean;
}

/** Sessions of a key, the most recently used one first. */
export async function listConversations(
  { store, cache }: ReadDeps,
  owner: string,
  { after, limit, metadata = {} }: ListedPage,
): Promise<readonly ListedSession[]> {
  const order = { orderBy: 'updated_at', direction: 'desc' } as const;
  const [pair] = Object.entries(metadata);
  const contains = pair && { contains: { field: 'labels', value: toLabel(...pair) } };
  const snapshots = await store.query(
    Conversations.query({ where: { owner }, ...contains, ...order, limit, ...(after && { after }) }),
  );
  return snapshots.flatMap((snapshot) => {
    const conversation = Conversations.read(snapshot);
    const isExpired = cache.read(snapshot) === undefined;
    return conversation === undefined ? [] : [{ id: snapshot.ref.id, conversation, isExpired }];
  });
}

/** The record of a turn is first stored two seconds after its first event. */
const FIRST_RECORD_MS_MAX = 4_000;

/**
 * Finds a turn. Without `turnId`: the running or last turn of the session. Without `sessionId`: in the session of the
 * turn, whose record is waited for until `signal` aborts. Throws `not_found`.
 */
export async function locateTurn(
  deps: ReadDeps,
  owner: string,
  sessionId: string | undefined,
  turnId: string | undefined,
  signal?: AbortSignal,
): Promise<LocatedTurn> {
  const { store } = deps;
  const session = sessionId ?? (await sessionOf(store, owner, turnId, signal));
  const found = session === undefined ? undefined : await findConversation(deps, owner, session);
  if (found === undefined) throw new RpcError('not_found', { message: 'no such session' });
  const { conversation } = found;
  const wanted = turnId ?? conversation.turn?.turn_id ?? conversation.last_turn?.turn_id;
  if (wanted === undefined) throw new RpcError('not_found', { message: 'the session has no turn yet' });
  const known = [conversation.turn, conversation.last_turn, ...conversation.queue];
  if (!known.some((turn) => turn?.turn_id === wanted)) {
    // A turn is returned for its own session only, although turn ids are unguessable.
    const [record] = await store.get([Turns.ref(wanted)]);
    if (Turns.read(record)?.conversation !== conversation.conversation_id) throw noSuchTurn();
  }
  return { ...found, turnId: wanted };
}

/** The stored state of a turn that does not run on this instance. Only reads. */
export async function snapshotTurn(store: Store, located: LocatedTurn): Promise<TurnSnapshot> {
  const { conversation, turnId } = located;
  const { queue } = conversation;
  const lease = conversation.turn?.turn_id === turnId ? conversation.turn : null;
  const [snapshot] = await store.get([Turns.ref(turnId)]);
  const record = Turns.read(snapshot);
  if (record === undefined) {
    const pending = lease !== null || queue.some((entry) => entry.turn_id === turnId);
    if (!pending) throw noSuchTurn();
    return { ...toNames(located), lease, status: 'running', events: [], usage: undefined, last_event: null };
  }
  const sealed = await readSealed(store, turnId, 0, record.chunks.length);
  return {
    ...toNames(located),
    lease,
    status: record.status,
    events: decodeTurn(record, sealed),
    usage: record.status === 'running' ? undefined : record.usage,
    last_event: record.last_event,
  };
}

/** Ids of a turn and its session, under their wire names. */
export function toNames({ conversation, turnId }: Pick<LocatedTurn, 'conversation' | 'turnId'>) {
  return { sessionId: conversation.session_id, conversationId: conversation.conversation_id, turnId };
}

/**
 * The record of another owner's turn is waited for as long as a missing one, so that the two cannot be distinguished.
 */
async function sessionOf(
  store: Store,
  owner: string,
  turnId: string | undefined,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  if (turnId === undefined) return undefined;
  const ref = Turns.ref(turnId);
  // Records of older versions do not name their owner; the caller of this function checks their conversation.
  const isOwn = (turn: TurnDocument | undefined): boolean => turn !== undefined && (turn.owner ?? owner) === owner;
  const read = async (): Promise<string | undefined> => {
    const turn = Turns.read((await store.get([ref]))[0]);
    return isOwn(turn) ? turn?.session_id : undefined;
  };
  const found = await read();
  if (found !== undefined) return found;
  await awaitDocument(Turns, store, ref, FIRST_RECORD_MS_MAX, isOwn, signal);
  return read();
}

function noSuchTurn(): RpcError {
  return new RpcError('not_found', { message: 'no such turn in this session, or its record has expired' });
}
