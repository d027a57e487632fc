// `events.list`: recorded webhook events, newest first unless `order` requests the opposite.
import { z } from 'zod';
import { hasMarks, parseMarked, toExactText } from '../rpc/exact-json.ts';
import { createPage } from '../rpc/page.ts';
import type { EventDocument } from '../webhooks/documents.ts';
import { listEvents } from '../webhooks/feed/list.ts';
import { isObject } from '../webhooks/interpret.ts';
import { defineMethod } from './define-method.ts';

export const RecordedEvent = z.object({
  event_id: z.string(),
  event: z.string(),
  timestamp: z.string().describe('Time of the event as its sender gave it, ISO 8601'),
  received_at: z.string().describe('Time of its arrival, ISO 8601'),
  source: z.string().describe('The sender: a key or a webhook secret'),
  data: z
    .unknown()
    .describe(
      '`data` of the body; the whole body when it has none. JSON text where parsing would lose digits of a number',
    ),
  status: z.enum(['recorded', 'sent']).describe('`recorded` until it is published'),
  message_id: z.string().nullable(),
});

export const eventsList = defineMethod({
  name: 'events.list',
  summary: 'Lists recorded webhook events; a page ends at 1 MiB',
  scope: 'webhook',
  cost: 'read',
  isBulky: true,
  params: z.strictObject({
    event: z.string().min(1).max(128).optional().describe('Only events of this name'),
    after: z.string().min(1).max(512).optional().describe('`next_cursor` of the page before, or an `event_id`'),
    order: z.enum(['newest', 'oldest']).default('newest'),
    limit: z.int().min(1).max(100).default(20),
  }),
  result: z.object({
    events: z.array(RecordedEvent),
    next_cursor: z.string().optional().describe('Present when there may be more'),
  }),
  example: {
    params: { event: 'deployment.success', limit: 1 },
    result: {
      events: [
        {
          event_id: 'evt_9fQyWcIFJgPpH0s7hX0QYt7bXr0pTqkq2Nf1xqB0v3s',
          event: 'deployment.success',
          timestamp: '2025-01-13T10:30:00Z',
          received_at: '2025-01-13T10:30:00.412Z',
          source: '/webhook/key/default',
          data: { service: 'wrapper', version: '486a13c9', region: 'us-central1', status: 'healthy' },
          status: 'sent',
          message_id: 'local-1',
        },
      ],
    },
  },
  async handle(params, { services, signal, answerBytesMax }) {
    const page = createPage<z.input<typeof RecordedEvent>>();
    const { nextCursor } = await listEvents(services.store, params, {
      signal,
      fits: ({ id, document }) => page.add(toRecordedEvent(id, document)),
    });
    page.check(answerBytesMax, nextCursor, { event_id: page.items[0]?.event_id });
    return { events: [...page.items], ...(nextCursor === undefined ? {} : { next_cursor: nextCursor }) };
  },
});

/** A recorded event in wire names. */
export function toRecordedEvent(id: string, document: EventDocument): z.input<typeof RecordedEvent> {
  return {
    event_id: id,
    event: document.event,
    timestamp: document.time,
    received_at: new Date(document.received_at_ms).toISOString(),
    source: document.source,
    data: dataOf(document.body),
    status: document.state,
    message_id: document.message_id,
  };
}

function dataOf(body: string): unknown {
  const value = parseMarked(body);
  const data = isObject(value) && Object.hasOwn(value, 'data') ? value.data : value;
  return hasMarks(data) ? toExactText(data) : data;
}
