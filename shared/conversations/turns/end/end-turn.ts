// The one way a turn ends: for its owner (settle-turn.ts), for another instance when the owner's lease has expired
// (abandoned.ts), for a prompt that leaves the queue without having run (queue.ts) and for a session that is deleted
// (erase.ts). Pure functions over the conversation document; the caller commits what they return in one transaction.
import { hasMoreThanText, type MessagePart } from '../../../messages/message-parts.ts';
import { truncateText } from '../../../messages/text.ts';
import type { Ref, Snapshot, Write } from '../../../store/store.ts';
import type { CutReason, TurnEvent } from '../../../turn-events.ts';
import type { ContextBudget, ConversationDocument, Lease, QueuedPrompt, TurnError } from '../../records/documents.ts';
import type { History } from '../../records/messages/history.ts';
import { appendMessage, type ChangedMessages } from '../../records/messages/messages.ts';
import { withCounted } from '../../records/storage.ts';
import { IDEMPOTENCY_KEPT_MS, IdempotencyRecords } from '../../records/turn-documents.ts';
import { settle } from '../lease.ts';
import type { RecordWrite, TurnEnd } from '../turn-record.ts';

/** Most budgets that a conversation stores. */
const BUDGETS_MAX = 8;
/** Of a failure's message in the conversation document; the turn has all of it. */
const ERROR_CHARS_MAX = 2_000;

export type EndEvents = readonly [TurnEvent, ...TurnEvent[]];

export interface Ending {
  /** From the current conversation document; its stop request overrides `end`. */
  readonly turn: Lease | QueuedPrompt;
  readonly end: TurnEnd;
  /** The answer, or the received part of it. */
  readonly text?: string;
  /** The messages with the answer added (addAnswer); absent for a turn that never ran. */
  readonly answered?: ChangedMessages;
  /** The budget for the model, if the provider has refused the conversation as too long. */
  readonly budget?: ContextBudget | undefined;
  /** The idempotency records of the turn, as they were read; not needed for an end that `isFinal`. */
  readonly keys: readonly Snapshot[];
  /** The writes of the turn's record with `events` as its last ones, the turn's own document first. */
  record(end: TurnEnd, events: EndEvents): readonly [RecordWrite, ...Write[]];
}

/** An answer, or the received part of one. */
export interface Answered {
  /** `model`: the one that answered. */
  readonly lease: Pick<Lease, 'turn_id' | 'model'>;
  readonly text: string;
  /** What the engine has recorded of it. */
  readonly parts: readonly MessagePart[];
  readonly end: TurnEnd;
}

export interface EndedInDocument {
  /** The document without the turn. */
  readonly conversation: ConversationDocument;
  /** The turn's own document in its terminal state. */
  readonly record: RecordWrite;
  /** The events that end the turn. */
  readonly events: EndEvents;
  /** All writes except that of the conversation. */
  readonly writes: readonly Write[];
  /** Bytes that are not in the owner's total yet. */
  readonly addedBytes: number;
}

/**
 * Adds the answer of a turn to the history, and moves older messages out of a full document. Only the owner of the
 * lease changes the messages, or the instance that ends the turn in its place.
 */
export async function addAnswer(
  history: History,
  conversation: ConversationDocument,
  { lease, text, parts, end }: Answered,
): Promise<ChangedMessages> {
  const { turn_id: turnId, model } = lease;
  const added =
    text === '' && !hasMoreThanText(parts)
      ? { conversation, writes: [] }
      : appendMessage(conversation, {
          role: 'assistant',
          text,
          parts,
          model,
          usage: end.usage,
          ...toFinishReason(end),
          turnId,
          now: toTime(end),
          partial: end.status !== 'completed',
        });
  const compacted = await history.compact(added.conversation);
  return { ...compacted, writes: [...added.writes, ...compacted.writes] };
}

/** Ends one turn: the conversation without it, its record, its idempotency key. */
export function endTurn(current: ConversationDocument, ending: Ending): EndedInDocument {
  const { turn, answered } = ending;
  const end = isQueued(turn) ? ending.end : withStop(ending.end, turn);
  const events = terminalEvents(end, turn.turn_id, ending.text ?? '');
  const [record, ...chunks] = ending.record(end, events);
  const { conversation, addedBytes } = isQueued(turn)
    ? { conversation: withoutQueued(current, turn), addedBytes: 0 }
    : settleRunning(current, turn, end, ending);
  return {
    conversation,
    record,
    events,
    writes: [record, ...chunks, ...(answered?.writes ?? []), ...releaseKey(current, end, turn, ending.keys)],
    addedBytes,
  };
}

/**
 * The writes for the turns of a session that is deleted: no end is stored, since every document of the session is
 * erased, but their idempotency keys are free at once.
 */
export function discardTurns({ turn, queue }: ConversationDocument): Write[] {
  const pending = turn === null ? queue : [turn, ...queue];
  return pending.flatMap(({ idempotency_id }) => (idempotency_id === null ? [] : [deleteKey(idempotency_id)]));
}

/**
 * Whether a repeated prompt with the idempotency key gets this end, because it must not run again or would fail again.
 */
export function isFinal({ status, failure }: TurnEnd): boolean {
  return status === 'completed' || status === 'cancelled' || failure?.retryable === false;
}

/** The idempotency records of these turns. */
export function keyRefsOf(turns: readonly Pick<Lease, 'idempotency_id'>[]): Ref[] {
  return turns.flatMap(({ idempotency_id: id }) => (id === null ? [] : [IdempotencyRecords.ref(id)]));
}

export function deleteKey(idempotencyId: string): Write {
  return { ref: IdempotencyRecords.ref(idempotencyId), delete: true };
}

/** A stop request that was stored before this commit overrides the end, because its caller has a success response. */
function withStop(end: TurnEnd, { stop }: Lease): TurnEnd {
  return stop === null ? end : { ...end, status: 'cancelled', failure: null, reason: stop };
}

function settleRunning(
  current: ConversationDocument,
  { turn_id }: Lease,
  end: TurnEnd,
  { answered, budget }: Ending,
): { readonly conversation: ConversationDocument; readonly addedBytes: number } {
  const { recent, chunks, message_count, message_tokens, stored_bytes } = answered?.conversation ?? current;
  const { counted, addedBytes } = withCounted({
    ...withBudget(current, budget),
    recent: markEnd(recent, turn_id, end),
    chunks,
    message_count,
    ...(message_tokens !== undefined && { message_tokens }),
    ...(stored_bytes !== undefined && { stored_bytes }),
  });
  return {
    conversation: settle(counted, { status: end.status, usage: end.usage, now: toTime(end), error: toError(end) }),
    addedBytes,
  };
}

function toError({ failure }: TurnEnd): TurnError | undefined {
  if (failure === null) return undefined;
  const { reason, message, retryable } = failure;
  return { reason, message: truncateText(message, ERROR_CHARS_MAX), retryable };
}

function withoutQueued(conversation: ConversationDocument, { turn_id }: QueuedPrompt): ConversationDocument {
  return { ...conversation, queue: conversation.queue.filter((entry) => entry.turn_id !== turn_id) };
}

function terminalEvents(end: TurnEnd, turnId: string, text: string): EndEvents {
  if (end.status === 'completed') {
    return [
      { AgentMessage: { message: text } },
      { TaskComplete: { turn_id: turnId, usage: end.usage, ...toFinishReason(end), ...toRemarks(end) } },
    ];
  }
  if (end.failure !== null) {
    const { reason, message } = end.failure;
    return [{ Error: { turn_id: turnId, reason, message } }];
  }
  const reason = end.reason ?? (end.status === 'interrupted' ? 'interrupted' : 'cancelled');
  return [{ TurnAborted: { turn_id: turnId, reason } }];
}

/** `finish_reason` of an answer that was cut; nothing if the model ended it. */
function toFinishReason({ finishReason }: TurnEnd): { readonly finish_reason?: CutReason } {
  return finishReason === undefined || finishReason === 'stop' ? {} : { finish_reason: finishReason };
}

function toRemarks({ warnings = [], structured }: TurnEnd) {
  return { ...(warnings.length > 0 && { warnings }), ...(structured === true && { structured }) };
}

/**
 * Releases the idempotency key of a turn that did not complete, unless the same prompt would fail again. The record
 * stays, because it contains the session and the stored prompt for the next attempt.
 */
function releaseKey(
  { owner, session_id }: Pick<ConversationDocument, 'owner' | 'session_id'>,
  end: TurnEnd,
  turn: Lease | QueuedPrompt,
  keys: readonly Snapshot[],
): Write[] {
  const { idempotency_id, params_hash, turn_id } = turn;
  if (isFinal(end) || idempotency_id === null) return [];
  if (params_hash === undefined) return [deleteKey(idempotency_id)];
  const prompt_turn = isQueued(turn) ? (turn.prompt_turn ?? null) : turn_id;
  const key = keys.find(({ ref }) => ref.id === idempotency_id);
  const before = IdempotencyRecords.read(key);
  const record = { ...before, owner, params_hash, turn_id, session_id, released: true, prompt_turn };
  const options = { expireAtMs: end.nowMs + IDEMPOTENCY_KEPT_MS };
  return [IdempotencyRecords.write(IdempotencyRecords.ref(idempotency_id), record, options)];
}

function withBudget(conversation: ConversationDocument, budget: ContextBudget | undefined): ConversationDocument {
  if (budget === undefined) return conversation;
  const others = (conversation.budgets ?? []).filter(({ model }) => model !== budget.model);
  return { ...conversation, budgets: [...others, budget].slice(-BUDGETS_MAX) };
}

/**
 * Marks the messages of a turn with its end: a stop request may have changed it after the answer was added. The last
 * message of a failed turn contains the error.
 */
function markEnd(recent: ConversationDocument['recent'], turnId: string, end: TurnEnd): ConversationDocument['recent'] {
  const partial = end.status !== 'completed';
  const last = recent.findLastIndex(({ turn_id }) => turn_id === turnId);
  const failure = toError(end);
  return recent.map((message, index) => {
    if (message.turn_id !== turnId) return message;
    const error = index === last ? failure : undefined;
    if (error === undefined && (message.role === 'user' || message.partial === partial)) return message;
    return { ...message, ...(message.role === 'assistant' && { partial }), ...(error && { error }) };
  });
}

function isQueued(turn: Lease | QueuedPrompt): turn is QueuedPrompt {
  return 'alive_until_ms' in turn;
}

function toTime({ nowMs }: TurnEnd): string {
  return new Date(nowMs).toISOString();
}
