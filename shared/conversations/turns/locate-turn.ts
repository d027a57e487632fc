// Finds what a caller names: a session of its own, a turn of that session, and how the turn stands. What is another
// key's, erased or expired is not found, all in the same words.

import { RpcError } from '../../errors.ts';
import type { Ref, Store } from '../../store/store.ts';
import type { Usage } from '../../turn-events.ts';
import type { TurnDeps } from '../deps.ts';
import {
  type ConversationDocument,
  conversationRef,
  type TurnDocument,
  type TurnStatus,
  turnRef,
} from '../records/documents.ts';
import type { NumberedEvent } from '../records/event-log.ts';
import { settleAbandoned } from './abandoned.ts';
import { decodeTurn, readSealed } from './turn-record.ts';

export interface LocatedTurn {
  readonly ref: Ref;
  readonly conversation: ConversationDocument;
  readonly turnId: string;
}

/** A turn as it stands at one moment. */
export interface TurnSnapshot {
  readonly sessionId: string;
  readonly conversationId: string;
  readonly turnId: string;
  readonly status: TurnStatus;
  readonly events: readonly NumberedEvent[];
  /** Undefined while the turn runs. */
  readonly usage: Usage | undefined;
  readonly last_event: TurnDocument['last_event'];
}

/** The session's document; undefined when it is missing, another key's, or being erased. */
export async function findConversation(
  store: Store,
  owner: string,
  sessionId: string,
): Promise<{ readonly ref: Ref; readonly conversation: ConversationDocument } | undefined> {
  const ref = conversationRef(owner, sessionId);
  const [snapshot] = await store.get<ConversationDocument>([ref]);
  const conversation = snapshot?.data;
  return conversation === undefined || conversation.deleted ? undefined : { ref, conversation };
}

/**
 * The turn a caller means: the present or last one when `turnId` is undefined, in the turn's own session when
 * `sessionId` is. Throws `not_found`.
 */
export async function locateTurn(
  store: Store,
  owner: string,
  sessionId: string | undefined,
  turnId: string | undefined,
): Promise<LocatedTurn> {
  const session = sessionId ?? (await sessionOf(store, turnId));
  const found = session === undefined ? undefined : await findConversation(store, owner, session);
  if (found === undefined) throw new RpcError('not_found', { message: 'no such session' });
  const { conversation } = found;
  const wanted = turnId ?? conversation.turn?.turn_id ?? conversation.last_turn?.turn_id;
  if (wanted === undefined) throw new RpcError('not_found', { message: 'the session has no turn yet' });
  const known = [conversation.turn, conversation.last_turn, ...conversation.queue];
  if (!known.some((turn) => turn?.turn_id === wanted)) {
    // A turn id is unguessable, yet only its own session may show it.
    const [record] = await store.get<TurnDocument>([turnRef(wanted)]);
    if (record?.data?.conversation !== conversation.conversation_id) throw noSuchTurn();
  }
  return { ...found, turnId: wanted };
}

/** How a turn that does not run on this instance stands; settles it when its owner is gone. */
export async function snapshotTurn(deps: TurnDeps, located: LocatedTurn): Promise<TurnSnapshot> {
  const { store } = deps;
  const { ref, conversation, turnId } = located;
  const { turn, queue } = conversation;
  if (turn?.turn_id === turnId && deps.owners.ofLease(turn) === 'gone') {
    await settleAbandoned(deps, ref, turn, { reason: 'interrupted' });
  }
  const [snapshot] = await store.get<TurnDocument>([turnRef(turnId)]);
  const record = snapshot?.data;
  if (record === undefined) {
    const pending = turn?.turn_id === turnId || queue.some((entry) => entry.turn_id === turnId);
    if (!pending) throw noSuchTurn();
    return { ...toNames(located), status: 'running', events: [], usage: undefined, last_event: null };
  }
  const sealed = await readSealed(store, turnId, 0, record.chunks.length);
  return {
    ...toNames(located),
    status: record.status,
    events: decodeTurn(record, sealed),
    usage: record.status === 'running' ? undefined : record.usage,
    last_event: record.last_event,
  };
}

/** A turn and its session by the names the wire uses. */
export function toNames({ conversation, turnId }: Pick<LocatedTurn, 'conversation' | 'turnId'>) {
  return { sessionId: conversation.session_id, conversationId: conversation.conversation_id, turnId };
}

async function sessionOf(store: Store, turnId: string | undefined): Promise<string | undefined> {
  if (turnId === undefined) return undefined;
  const [record] = await store.get<TurnDocument>([turnRef(turnId)]);
  return record?.data?.session_id;
}

function noSuchTurn(): RpcError {
  return new RpcError('not_found', { message: 'no such turn in this session, or its record has expired' });
}
