// The documents of the webhook pipeline: schemas, ids, lifetimes. `events/<id>` is the event (30 days); `outbox/<id>`
// exists until the event is marked as published. outbox.ts changes them.
import { z } from 'zod';
import { badCursor } from '../store/cursor.ts';
import { type DocumentOf, defineDocument } from '../store/define-document.ts';
import type { CallOptions, Store, Write } from '../store/store.ts';
import type { GatewayEvent } from './event.ts';

/** Lifetime of events; a delivery that is repeated later counts as new. */
const EVENT_TTL_MS = 30 * 86_400_000;

const EVENT_ID = /^evt_[\w-]{43}$/;

const EventFields = z.object({
  event: z.string(),
  source: z.string(),
  time: z.string(),
  ordering_key: z.string(),
  /** The body, JSON text. */
  body: z.string(),
  received_at_ms: z.number(),
  state: z.enum(['recorded', 'sent']),
  /** Message id of the bus; null until the event is published. */
  message_id: z.string().nullable(),
});

const OutboxFields = z.object({
  ordering_key: z.string(),
  created_at_ms: z.number(),
  /** Only the owner of the claim may publish before this time. */
  due_at_ms: z.number(),
  attempts: z.number(),
});

export const Events = defineDocument({
  collection: 'events',
  schema: EventFields,
  queries: [
    { orderBy: 'received_at_ms' },
    { orderBy: 'received_at_ms', direction: 'desc' },
    { where: ['event'], orderBy: 'received_at_ms' },
    { where: ['event'], orderBy: 'received_at_ms', direction: 'desc' },
  ],
  owned: 'deployment',
  id: 'event id',
  holds: 'webhook events',
  writtenBy: '`/webhook`, the sweeper',
  kept: '30 days',
});
export type EventDocument = DocumentOf<typeof Events>;

/** An event that still has to be published. */
export const Outbox = defineDocument({
  collection: 'outbox',
  schema: OutboxFields,
  queries: [{ orderBy: 'due_at_ms' }],
  owned: 'deployment',
  id: 'event id',
  holds: 'events that are not published yet',
  writtenBy: '`/webhook`, the sweeper',
  kept: '30 days',
});
export type OutboxDocument = DocumentOf<typeof Outbox>;

/**
 * The position of the event whose id is `text`; undefined when `text` is no event id. Throws `invalid_params` when the
 * event no longer exists.
 */
export async function resolveEventCursor(
  store: Store,
  text: string,
  options: CallOptions = {},
): Promise<{ readonly value: number; readonly id: string } | undefined> {
  if (!EVENT_ID.test(text)) return undefined;
  const [snapshot] = await store.get([Events.ref(text)], options);
  const event = Events.read(snapshot);
  if (event === undefined) throw badCursor('after', 'no such event');
  return { value: event.received_at_ms, id: text };
}

export function eventWrite(id: string, data: EventDocument): Write {
  return Events.write(Events.ref(id), data, { expireAtMs: data.received_at_ms + EVENT_TTL_MS });
}

export function outboxWrite(id: string, data: OutboxDocument): Write {
  return Outbox.write(Outbox.ref(id), data, { expireAtMs: data.created_at_ms + EVENT_TTL_MS });
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

/** Converts a stored event to the event of the bus. */
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
