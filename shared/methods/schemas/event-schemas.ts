// What the events.* methods share: a recorded event in wire names, ids of subscriptions.

import { z } from 'zod';
import { isObject } from '../../json/json-object.ts';
import { hasMarks, parseMarked, toExactText } from '../../rpc/json/exact-json.ts';
import type { EventDocument } from '../../webhooks/documents.ts';

/** Prefix of the ids under which a connection keeps its subscriptions. */
export const SUBSCRIPTION_PREFIX = 'sub';

export const RecordedEvent = z.object({
  event_id: z.string(),
  event: z.string(),
  timestamp: z.string().describe('Time of the event as sent by its sender, ISO 8601'),
  received_at: z.string().describe('Time of its arrival, ISO 8601'),
  source: z.string().describe('The sender: a key or a webhook secret'),
  data: z
    .unknown()
    .describe(
      '`data` of the body, or the whole body without `data`; JSON text if parsing would lose digits of a number',
    ),
  status: z.enum(['recorded', 'sent']).describe('`recorded` until it is published'),
  message_id: z.string().nullable(),
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
