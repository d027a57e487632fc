// The documents of a turn, its events and its idempotency key, and their ids in the store.
import { z } from 'zod';
import { type DocumentOf, defineDocument } from '../../store/define-document.ts';
import type { Ref } from '../../store/store.ts';
import type { TurnEvent } from '../../turn-events.ts';
import { hashId, StoredUsage, TurnStatus } from './documents.ts';

/** The state of a turn and the newest part of its events. */
export const Turns = defineDocument({
  collection: 'turns',
  schema: z.object({
    /** Key id; absent in documents of older versions. */
    owner: z.string().exactOptional(),
    /**
     * The conversation id, which is new when a deleted session starts again: it ties the turn to its owner and to the
     * documents that `delete` erases.
     */
    conversation: z.string(),
    session_id: z.string(),
    model: z.string(),
    status: TurnStatus,
    started_at: z.string(),
    ended_at: z.string().nullable(),
    usage: StoredUsage,
    /** Of a completed turn: the number of its answer in the history. */
    message_seq: z.number().exactOptional(),
    /** Highest seq written. */
    seq: z.number(),
    /** First seq of each sealed chunk in `turn_events/<turn id>-<n>`. */
    chunks: z.array(z.number()),
    /** Events from `first_seq` on, JSON text (event-log.ts). */
    first_seq: z.number(),
    events: z.string(),
    /**
     * The terminal event when another instance than the owner ended the turn, numbered after the last stored event. A
     * reader that has received later ones gets it under another number (syntheticTerminalEvent).
     */
    last_event: z.object({ seq: z.number(), event: z.custom<TurnEvent>(isEvent) }).nullable(),
    idempotency_id: z.string().nullable(),
    /** The error that the caller of a failed turn got; null otherwise. */
    failure: z
      .object({
        reason: z.string(),
        message: z.string(),
        data: z.string(),
        retryable: z.boolean(),
        retry_after_ms: z.number().nullable(),
      })
      .nullable(),
  }),
  queries: [{ where: ['conversation'], orderBy: 'started_at' }],
  owned: { orderBy: 'started_at' },
  id: 'turn id',
  holds: 'state of a turn, and its newest events for `conversation.resume`',
  writtenBy: 'the turn’s owner',
  kept: '25 h after its end',
});
export type TurnDocument = DocumentOf<typeof Turns>;

/** A sealed chunk of events, JSON text (event-log.ts). */
export const TurnEvents = defineDocument({
  collection: 'turn_events',
  schema: z.object({ owner: z.string().exactOptional(), first_seq: z.number(), events: z.string() }),
  owned: { orderBy: 'first_seq' },
  id: 'turn id and number',
  holds: 'older events of a turn',
  writtenBy: 'the turn’s owner',
  kept: '25 h after its end',
});
export type TurnEventsDocument = DocumentOf<typeof TurnEvents>;

export const IdempotencyRecords = defineDocument({
  collection: 'idempotency',
  schema: z.object({
    owner: z.string().exactOptional(),
    params_hash: z.string(),
    turn_id: z.string(),
    session_id: z.string(),
    /**
     * The turn failed and another attempt may succeed: the key is free, and the same params continue in the same
     * session.
     */
    released: z.boolean().exactOptional(),
    /** If the key is released: the turn whose message contains the prompt, or null if none was stored. */
    prompt_turn: z.string().nullable().exactOptional(),
  }),
  owned: { orderBy: 'turn_id' },
  id: 'hash of key id and idempotency key',
  holds: 'the turn that answers the key',
  writtenBy: 'prompts',
  kept: '24 h',
});
export type IdempotencyDocument = DocumentOf<typeof IdempotencyRecords>;

/** A turn is stored longer than its idempotency record, which names it. */
export const TURN_KEPT_MS = 25 * 3_600_000;
export const IDEMPOTENCY_KEPT_MS = 24 * 3_600_000;

export function turnEventsRef(turnId: string, chunk: number): Ref {
  return TurnEvents.ref(`${turnId}-${chunk}`);
}

export function idempotencyRef(owner: string, key: string): Ref {
  return IdempotencyRecords.ref(hashId(owner, key));
}

/** Checks the form only, because newer versions have more kinds of events. */
export function isEvent(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 1;
}
