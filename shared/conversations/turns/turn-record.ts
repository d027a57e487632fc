// A turn in the store: its document and its chunks of events, written while it runs (event-flusher.ts) and once when it
// ends.

import type { SettingWarning } from '../../messages/turn-settings.ts';
import type { DocumentWrite } from '../../store/define-document.ts';
import type { Precondition, Ref, Store, Version, Write } from '../../store/store.ts';
import type { AbortReason, CutReason, TurnEvent, Usage } from '../../turn-events.ts';
import { NO_USAGE } from '../../usage.ts';
import type { ConversationDocument, Lease, TurnStatus } from '../records/documents.ts';
import { createEventDecoder, encodeEvents, type NumberedEvent } from '../records/event-log.ts';
import {
  TURN_KEPT_MS,
  type TurnDocument,
  TurnEvents,
  type TurnEventsDocument,
  Turns,
  turnEventsRef,
} from '../records/turn-documents.ts';

/** A chunk of events is sealed once its text has this many characters. */
const CHUNK_CHARS = 64 << 10;
/** Chunks in one commit of a running turn: a commit holds 10 MiB, and a character may need six bytes in JSON. */
const SEALED_PER_FLUSH = 8;

/** Identifies a turn, running or waiting. */
export interface TurnFacts {
  readonly conversation: Pick<ConversationDocument, 'owner' | 'conversation_id' | 'session_id'>;
  readonly lease: Pick<Lease, 'turn_id' | 'model' | 'started_at' | 'idempotency_id'>;
}

export interface TurnEnd {
  readonly status: Exclude<TurnStatus, 'running'>;
  readonly usage: Usage;
  readonly nowMs: number;
  readonly failure: TurnDocument['failure'];
  readonly finishReason?: 'stop' | CutReason | undefined;
  readonly warnings?: readonly SettingWarning[] | undefined;
  /** Of a completed turn: the number of its answer in the history. */
  readonly messageSeq?: number | undefined;
  /** The answer is JSON of the prompt's schema. */
  readonly structured?: boolean;
  /** Why a turn was stopped; absent in a turn that was not. */
  readonly reason?: AbortReason | undefined;
}

/** The write of the turn's own document. */
export type RecordWrite = DocumentWrite<TurnDocument>;

/** Converts the log of a turn to writes. A sealed chunk is written once, the open one with every flush. */
export interface TurnRecord {
  /** Seq up to which events are in the store. */
  readonly flushedSeq: number;
  /** Sealed chunks in the store. */
  readonly sealedChunks: number;
  readonly ref: Ref;
  /**
   * The writes that bring the store up to `events`; call `flushed` when they are committed. While the turn runs they
   * are fenced by the document's version and may stop short of the last event; the ones that end it are fenced by the
   * conversation's epoch, in the same commit, and hold everything.
   */
  writes(events: readonly NumberedEvent[], end: TurnEnd | undefined, nowMs: number): readonly [RecordWrite, ...Write[]];
  flushed(version: Version | null | undefined): void;
  /** Sets the version that the next write requires, after a write with an unknown outcome was found to be applied. */
  updateFence(version: Version): void;
}

export function createTurnRecord(facts: TurnFacts): TurnRecord {
  const { lease, conversation } = facts;
  const { owner } = conversation;
  const ref = Turns.ref(lease.turn_id);
  let version: Version | null = null;
  let state: { chunks: readonly number[]; firstSeq: number } = { chunks: [], firstSeq: 1 };
  let pending: { seq: number; state: typeof state } = { seq: 0, state };
  const record: TurnRecord & { flushedSeq: number; sealedChunks: number } = {
    ref,
    flushedSeq: 0,
    sealedChunks: 0,
    writes(events, end, nowMs) {
      const expireAtMs = nowMs + TURN_KEPT_MS;
      const chunks = [...state.chunks];
      let firstSeq = state.firstSeq;
      const sealed: Write[] = [];
      let open = events.filter((numbered) => numbered.seq >= firstSeq);
      const text = encodeEvents(open);
      // charsOf() is at most the length of the text, so events of less text fill no chunk.
      for (let part = text.length < CHUNK_CHARS ? 0 : fullPart(open); part > 0; part = fullPart(open)) {
        const data = { owner, first_seq: firstSeq, events: encodeEvents(open.slice(0, part)) };
        sealed.push(TurnEvents.write(turnEventsRef(lease.turn_id, chunks.length), data, { expireAtMs }));
        chunks.push(firstSeq);
        open = open.slice(part);
        firstSeq = open[0]?.seq ?? firstSeq + part;
        if (end === undefined && sealed.length === SEALED_PER_FLUSH) open = [];
      }
      const seq = open.at(-1)?.seq ?? firstSeq - 1;
      pending = { seq, state: { chunks, firstSeq } };
      const data: TurnDocument = {
        owner,
        conversation: conversation.conversation_id,
        session_id: conversation.session_id,
        model: modelOf(events) ?? lease.model,
        status: end?.status ?? 'running',
        started_at: lease.started_at,
        ended_at: end === undefined ? null : new Date(end.nowMs).toISOString(),
        usage: end?.usage ?? NO_USAGE,
        ...(end?.status === 'completed' && end.messageSeq !== undefined && { message_seq: end.messageSeq }),
        seq,
        chunks,
        first_seq: firstSeq,
        events: sealed.length === 0 ? text : encodeEvents(open),
        last_event: null,
        idempotency_id: lease.idempotency_id,
        failure: end?.failure ?? null,
      };
      const fence: Precondition = version === null ? 'absent' : { version };
      return [Turns.write(ref, data, { expireAtMs, ...(end === undefined && { if: fence }) }), ...sealed];
    },
    flushed(committed) {
      version = committed ?? version;
      state = pending.state;
      record.flushedSeq = pending.seq;
      record.sealedChunks = state.chunks.length;
    },
    updateFence(stored) {
      version = stored;
    },
  };
  return record;
}

/** The model that answers, which may be a fallback; undefined until the turn's first event. */
export function modelOf([first]: readonly NumberedEvent[]): string | undefined {
  return first !== undefined && 'TaskStarted' in first.event ? first.event.TaskStarted.model : undefined;
}

/** Number of leading events that fill a chunk; 0 if the events do not fill one. */
function fullPart(events: readonly NumberedEvent[]): number {
  let chars = 0;
  for (const [index, { event }] of events.entries()) {
    chars += charsOf(event);
    if (chars >= CHUNK_CHARS) return index + 1;
  }
  return 0;
}

/** Characters of an event in the store. */
export function charsOf(event: TurnEvent): number {
  if ('AgentMessageDelta' in event) return event.AgentMessageDelta.delta.length + 3;
  if ('AgentMessage' in event) return 4;
  return 'AgentReasoning' in event ? 22 : JSON.stringify(event).length;
}

/**
 * The terminal document of a turn whose owner has ended, made from the document that the owner stored (undefined:
 * none).
 */
export function endedByOther(
  facts: TurnFacts,
  stored: TurnDocument | undefined,
  end: TurnEnd,
  event: TurnEvent,
): RecordWrite {
  const seq = (stored?.seq ?? 0) + 1;
  const data: TurnDocument = {
    ...stored,
    owner: facts.conversation.owner,
    conversation: facts.conversation.conversation_id,
    session_id: facts.conversation.session_id,
    model: stored?.model ?? facts.lease.model,
    status: end.status,
    started_at: facts.lease.started_at,
    ended_at: new Date(end.nowMs).toISOString(),
    usage: end.usage,
    seq,
    chunks: stored?.chunks ?? [],
    first_seq: stored?.first_seq ?? 1,
    events: stored?.events ?? '[]',
    idempotency_id: facts.lease.idempotency_id,
    failure: end.failure,
    last_event: { seq, event },
  };
  return Turns.write(Turns.ref(facts.lease.turn_id), data, { expireAtMs: end.nowMs + TURN_KEPT_MS });
}

/**
 * For a reader that has received more events than were stored when another instance ended the turn: the terminal event,
 * numbered after `afterSeq`. Undefined for any other reader. So every reader receives the end without a gap in the
 * numbers.
 */
export function syntheticTerminalEvent(
  { last_event: end }: Pick<TurnDocument, 'last_event'>,
  afterSeq: number,
): NumberedEvent | undefined {
  return end === null || afterSeq < end.seq ? undefined : { seq: afterSeq + 1, event: end.event };
}

/**
 * All stored events of a turn, oldest first. Sealed chunks come from `readSealed`, so that a reader that follows a turn
 * reads each once.
 */
export function decodeTurn(turn: TurnDocument, sealed: readonly TurnEventsDocument[]): NumberedEvent[] {
  const decode = createEventDecoder();
  const events = sealed.flatMap((chunk) => decode(chunk.first_seq, chunk.events));
  events.push(...decode(turn.first_seq, turn.events));
  if (turn.last_event !== null) events.push(turn.last_event);
  return events;
}

/** Reads the sealed chunks `from..to` of a turn. */
export async function readSealed(
  store: Store,
  turnId: string,
  from: number,
  to: number,
): Promise<TurnEventsDocument[]> {
  if (from >= to) return [];
  const refs = Array.from({ length: to - from }, (_, index) => turnEventsRef(turnId, from + index));
  const snapshots = await store.get(refs);
  return snapshots.flatMap((snapshot) => TurnEvents.read(snapshot) ?? []);
}
