// The rules of a lease as pure functions over the conversation document: admit, renew, settle. An instance commits a
// result under the version that it read, so of two concurrent writes only one succeeds.

import type { Usage } from '../../turn-events.ts';
import { addUsage, NO_USAGE } from '../../usage.ts';
import { type OwnerWatch, QUEUE_ALIVE_MS } from '../owner-watch.ts';
import type { ConversationDocument, Lease, QueuedPrompt, TurnError, TurnStatus } from '../records/documents.ts';

export const QUEUE_MAX = 8;

export type OnBusy = 'reject' | 'queue' | 'interrupt';

export function newConversation(
  owner: string,
  sessionId: string,
  conversationId: string,
  model: string,
  now: string,
): ConversationDocument {
  return {
    owner,
    session_id: sessionId,
    conversation_id: conversationId,
    model,
    created_at: now,
    updated_at: now,
    message_count: 0,
    usage: NO_USAGE,
    status: 'idle',
    epoch: 0,
    turn: null,
    last_turn: null,
    queue: [],
    recent: [],
    chunks: [],
    deleted: false,
  };
}

export type Admission =
  | { readonly kind: 'admitted'; readonly conversation: ConversationDocument }
  | { readonly kind: 'queued'; readonly conversation: ConversationDocument }
  /** Still in the queue; `conversation` renews the entry, if the renewal is due. */
  | { readonly kind: 'waiting'; readonly conversation: ConversationDocument | undefined }
  | { readonly kind: 'running' }
  /** The owner of the running turn has ended; another instance must settle the turn first. */
  | { readonly kind: 'abandoned'; readonly lease: Lease }
  /** It is not known yet whether the owner of the running turn is alive. */
  | { readonly kind: 'unknown_owner'; readonly lease: Lease }
  | { readonly kind: 'busy'; readonly lease: Lease | null; readonly queueFull: boolean };

export interface AdmissionRequest {
  readonly turnId: string;
  readonly model: string;
  readonly onBusy: OnBusy;
  readonly idempotencyId: string | null;
  readonly paramsHash: string | undefined;
  /** The turn whose message holds the prompt of an earlier attempt, or null. */
  readonly promptTurn: string | null;
  readonly nowMs: number;
  readonly leaseMs: number;
  readonly owners: OwnerWatch;
}

/**
 * Decides whether a prompt runs now. In a free session it runs, after the prompts that are already in the queue. In a
 * busy session `onBusy` decides: `reject` refuses the prompt, `queue` appends it to the queue, `interrupt` stops the
 * running turn and puts the prompt first. Removes expired entries of the queue.
 */
export function admit(conversation: ConversationDocument, request: AdmissionRequest): Admission {
  const { turnId, nowMs, onBusy, owners } = request;
  const { turn } = conversation;
  if (turn?.turn_id === turnId) return { kind: 'running' };
  const ownerState = turn ? owners.ofLease(turn) : 'alive';
  if (turn && ownerState === 'expired') return { kind: 'abandoned', lease: turn };
  if (turn && ownerState === 'unknown') return { kind: 'unknown_owner', lease: turn };
  const queue = liveQueue(conversation, owners);
  const position = queue.findIndex((entry) => entry.turn_id === turnId);
  if (turn === null && (queue.length === 0 || position === 0)) {
    return { kind: 'admitted', conversation: lease({ ...conversation, queue: queue.slice(position + 1) }, request) };
  }
  if (position !== -1) return { kind: 'waiting', conversation: keepAlive(conversation, turnId, nowMs) };
  if (onBusy === 'reject') return { kind: 'busy', lease: turn, queueFull: false };
  if (queue.length >= QUEUE_MAX) return { kind: 'busy', lease: turn, queueFull: true };
  const entry = queueEntry(request);
  if (onBusy === 'queue') return { kind: 'queued', conversation: { ...conversation, queue: [...queue, entry] } };
  // `interrupt`: the running turn gets a stop request, and this prompt is the first of the queue.
  const stopped = turn && turn.stop === null ? { ...turn, stop: 'replaced' as const } : turn;
  return { kind: 'queued', conversation: { ...conversation, turn: stopped, queue: [entry, ...queue] } };
}

/** The entries that have not expired. */
function liveQueue(conversation: ConversationDocument, owners: OwnerWatch): readonly QueuedPrompt[] {
  return conversation.queue.filter(owners.isWaiting);
}

function keepAlive(
  conversation: ConversationDocument,
  turnId: string,
  nowMs: number,
): ConversationDocument | undefined {
  const aliveUntilMs = nowMs + QUEUE_ALIVE_MS;
  // Also if the stored time is far ahead: the clock of this instance was wrong when it wrote the entry.
  const due = conversation.queue.some(
    (entry) => entry.turn_id === turnId && Math.abs(aliveUntilMs - entry.alive_until_ms) > QUEUE_ALIVE_MS / 3,
  );
  if (!due) return undefined;
  const queue = conversation.queue.map((entry) =>
    entry.turn_id === turnId ? { ...entry, alive_until_ms: aliveUntilMs } : entry,
  );
  return { ...conversation, queue };
}

/**
 * The fence: whether the running turn is still the one of `lease`. Compares the turn id as well, because epochs start
 * at 0 again when a deleted session is started again.
 */
export function isHeldBy(turn: Lease | null | undefined, lease: Lease): turn is Lease {
  return turn?.epoch === lease.epoch && turn.turn_id === lease.turn_id;
}

/** Renews the lease of its owner; undefined when the turn is no longer the owner's. */
export function renew(
  conversation: ConversationDocument,
  lease: Lease,
  leaseUntilMs: number,
): ConversationDocument | undefined {
  if (!isHeldBy(conversation.turn, lease)) return undefined;
  return { ...conversation, turn: { ...conversation.turn, lease_until_ms: leaseUntilMs } };
}

/** Ends the running turn: the session is free again, and has the terminal state of the turn. */
export function settle(
  conversation: ConversationDocument,
  end: {
    readonly status: Exclude<TurnStatus, 'running'>;
    readonly usage: Usage;
    readonly now: string;
    readonly error?: TurnError | undefined;
  },
): ConversationDocument {
  const { turn } = conversation;
  if (turn === null) return conversation;
  return {
    ...conversation,
    status: end.status === 'completed' ? 'idle' : end.status === 'failed' ? 'failed' : 'cancelled',
    turn: null,
    last_turn: { turn_id: turn.turn_id, status: end.status, ...(end.error && { error: end.error }) },
    usage: addUsage(conversation.usage, end.usage),
    updated_at: end.now,
  };
}

function lease(conversation: ConversationDocument, request: AdmissionRequest): ConversationDocument {
  const now = new Date(request.nowMs).toISOString();
  const epoch = conversation.epoch + 1;
  return {
    ...conversation,
    status: 'running',
    model: request.model,
    updated_at: now,
    epoch,
    turn: {
      turn_id: request.turnId,
      epoch,
      model: request.model,
      started_at: now,
      lease_until_ms: request.nowMs + request.leaseMs,
      stop: null,
      idempotency_id: request.idempotencyId,
      ...(request.paramsHash !== undefined && { params_hash: request.paramsHash }),
    },
  };
}

function queueEntry(request: AdmissionRequest): QueuedPrompt {
  return {
    turn_id: request.turnId,
    model: request.model,
    enqueued_at: new Date(request.nowMs).toISOString(),
    alive_until_ms: request.nowMs + QUEUE_ALIVE_MS,
    idempotency_id: request.idempotencyId,
    ...(request.paramsHash !== undefined && { params_hash: request.paramsHash }),
    ...(request.promptTurn !== null && { prompt_turn: request.promptTurn }),
  };
}
