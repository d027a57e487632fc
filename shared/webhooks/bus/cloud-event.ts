// GatewayEvent <-> Pub/Sub message: CloudEvents 1.0, Pub/Sub binding, binary mode
// (https://github.com/googleapis/google-cloudevents/blob/main/docs/spec/pubsub.md), the extension `recordedtime`
// (https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/recordedtime.md), the trace of the request
// (extensions/distributed-tracing.md there), and `event` for subscription filters.
import { z } from 'zod';
import { RpcError } from '../../errors.ts';
import { fromTraceparent, type Trace, traceHeaders } from '../../telemetry/trace.ts';
import type { GatewayEvent } from '../event.ts';

/** A message in the form of the client library. */
export interface BusMessage {
  readonly data: Buffer;
  readonly attributes: Readonly<Record<string, string>>;
  readonly orderingKey: string;
}

const TRACE_ATTRIBUTE = 'ce-traceparent';

/** RFC 3339, with an existing date. */
export const EventTime = z.iso.datetime({ offset: true });

const Attributes = z.object({
  'ce-id': z.string().min(1).max(128),
  'ce-type': z.string().min(1).max(1024),
  'ce-source': z.string().min(1).max(1024),
  'ce-time': EventTime,
  'ce-recordedtime': EventTime.optional(),
  'ce-specversion': z.literal('1.0'),
});

/** Converts an event to a message; its data are the bytes of the body. */
export function toMessage(event: GatewayEvent): BusMessage {
  return {
    data: Buffer.from(event.body, 'utf8'),
    attributes: {
      'ce-specversion': '1.0',
      'ce-id': event.id,
      'ce-type': event.type,
      'ce-source': event.source,
      'ce-time': event.time,
      'ce-recordedtime': new Date(event.recordedAtMs).toISOString(),
      'content-type': 'application/json',
      event: event.type,
      ...toTraceAttribute(),
    },
    orderingKey: event.orderingKey,
  };
}

/** The extension for distributed tracing; nothing for an event that the sweeper publishes later. */
function toTraceAttribute(): Record<string, string> {
  const { traceparent } = traceHeaders();
  return traceparent === undefined ? {} : { [TRACE_ATTRIBUTE]: traceparent };
}

/** The trace of the request that recorded the event of a message. */
export function traceOf(attributes: unknown): Trace | undefined {
  const known = typeof attributes === 'object' && attributes !== null && TRACE_ATTRIBUTE in attributes;
  return known ? fromTraceparent(attributes[TRACE_ATTRIBUTE]) : undefined;
}

/** Converts a message to an event. Throws RpcError `invalid_request` when the message is not from this gateway. */
export function fromMessage(message: {
  readonly data: Buffer;
  readonly attributes: unknown;
  readonly orderingKey?: string | undefined;
}): GatewayEvent {
  const parsed = Attributes.safeParse(message.attributes);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new RpcError('invalid_request', {
      data: { detail: `attribute ${issue?.path.join('.')}: ${issue?.message}` },
    });
  }
  const attributes = parsed.data;
  return {
    id: attributes['ce-id'],
    type: attributes['ce-type'],
    source: attributes['ce-source'],
    time: attributes['ce-time'],
    recordedAtMs: Date.parse(attributes['ce-recordedtime'] ?? attributes['ce-time']),
    body: message.data.toString('utf8'),
    orderingKey: message.orderingKey || attributes['ce-source'],
  };
}
