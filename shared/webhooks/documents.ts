// The documents of the webhook pipeline: shapes, addresses, lifetimes. `events/<id>` is the event (30 days);
// `outbox/<id>` exists exactly as long as the event is not known to be published. Who may change them when is
// outbox.ts.
import { z } from 'zod';
import { badCursor } from '../store/cursor.ts';
import type { CallOptions, Data, Ref, Store, Write } from '../store/store.ts';
import type { GatewayEvent } from './event.ts';

/** How long events, and with them the memory of delivery ids, are kept. */
export const EVENT_TTL_MS = 30 * 86_400_000;

const EVENT_ID = /^evt_[\w-]{43}$/;

const EventDocument = z.object({
  event: z.string(),
  source: z.string(),
  time: z.string(),
  ordering_key: z.string(),
  /** The whole body, JSON text. */
  body: z.string(),
  received_at_ms: z.number(),
  state: z.enum(['recorded', 'sent']),
  /** The bus's id, once sent. */
  message_id: z.string().nullable(),
});

const OutboxDocument = z.object({
  ordering_key: z.string(),
  created_at_ms: z.number(),
  /** Only the owner of the claim may publish before this time. */
  due_at_ms: z.number(),
  attempts: z.number(),
});

/** `events/<id>`. */
export type EventDocument = z.output<typeof EventDocument>;
/** `outbox/<id>`: an event that still has to be published. */
export type OutboxDocument = z.output<typeof OutboxDocument>;

export function eventRef(id: string): Ref {
  return { collection: 'events', id };
}

export function outboxRef(id: string): Ref {
  return { collection: 'outbox', id };
}

/** Stored data -> event document; undefined for an absent one. */
export function readEvent(data: Data | undefined): EventDocument | undefined {
  return data === undefined ? undefined : EventDocument.parse(data);
}

/** Stored data -> outbox entry; undefined for an absent one. */
export function readOutbox(data: Data | undefined): OutboxDocument | undefined {
  return data === undefined ? undefined : OutboxDocument.parse(data);
}

/**
 * Position among the others of an event that a caller names; undefined when `text` names none. Throws `invalid_params`
 * for one that is gone.
 */
export async function resolveEventCursor(
  store: Store,
  text: string,
  options: CallOptions = {},
): Promise<{ readonly value: number; readonly id: string } | undefined> {
  if (!EVENT_ID.test(text)) return undefined;
  const [snapshot] = await store.get([eventRef(text)], options);
  const event = readEvent(snapshot?.data);
  if (event === undefined) throw badCursor('after', 'no such event');
  return { value: event.received_at_ms, id: text };
}

export function eventWrite(id: string, data: EventDocument): Write {
  return { ref: eventRef(id), data, expireAtMs: data.received_at_ms + EVENT_TTL_MS };
}

export function outboxWrite(id: string, data: OutboxDocument): Write {
  return { ref: outboxRef(id), data, expireAtMs: data.created_at_ms + EVENT_TTL_MS };
}

/** A new event as it is stored before it is published. */
export function toDocument(event: GatewayEvent): EventDocument {
  return {
    event: event.type,
    source: event.source,
    time: event.time,
    ordering_key: event.orderingKey,
    body: event.body,
    received_at_ms: event.recordedAtMs,
    state: 'recorded',
    message_id: null,
  };
}

/** A stored event as the bus takes it. */
export function fromDocument(id: string, document: EventDocument): GatewayEvent {
  return {
    id,
    type: document.event,
    source: document.source,
    time: document.time,
    recordedAtMs: document.received_at_ms,
    body: document.body,
    orderingKey: document.ordering_key,
  };
}
