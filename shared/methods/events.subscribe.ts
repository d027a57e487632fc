// `events.subscribe`: sends webhook events as they arrive, after a replay of the missed ones.
import { z } from 'zod';
import { RpcError } from '../errors.ts';
import { errorFields } from '../log.ts';
import { NOTIFICATIONS } from '../protocol.ts';
import { escapeLineEnds } from '../rpc/json/line-ends.ts';
import type { SharedParams } from '../rpc/notification.ts';
import type { EventDocument } from '../webhooks/documents.ts';
import { CURSOR_CHARS_MAX } from '../webhooks/feed/follow-cursor.ts';
import { type Follower, followEvents } from '../webhooks/feed/follow-events.ts';
import { takePlace } from '../webhooks/places.ts';
import { defineMethod, type MethodContext } from './define-method.ts';
import { SUBSCRIPTION_PREFIX, toRecordedEvent } from './schemas/event-schemas.ts';

/**
 * Serialised events by document, for as long as the document is in memory: the feed passes one document to all its
 * readers.
 */
const forms = new WeakMap<EventDocument, SharedParams>();

export const eventsSubscribe = defineMethod({
  name: 'events.subscribe',
  summary:
    'Sends the webhook events since a cursor, then new ones as they arrive, as `event` notifications (WebSocket and ' +
    'SSE; at most 8 per key)',
  scope: 'webhook',
  cost: 'work',
  isEndless: true,
  params: z.strictObject({
    event: z.string().min(1).max(128).optional().describe('Only events of this name'),
    after: z
      .string()
      .min(1)
      .max(CURSOR_CHARS_MAX)
      .optional()
      .describe(
        '`cursor` or `event_id` of the last received event, or `next_cursor` of events.list with order oldest; ' +
          'default: new events only',
      ),
  }),
  result: z.object({
    subscribed: z.literal(true),
    subscription_id: z.string(),
    cursor: z.string().describe('Position before the first event'),
  }),
  errors: ['conflict', 'unavailable'],
  example: {
    params: { event: 'deployment.success' },
    result: { subscribed: true, subscription_id: 'sub_1', cursor: 'live.mi2k7q00.' },
  },
  async handle(params, context) {
    const { services, signal, connection, transport, requestMetadata } = context;
    if (transport === 'http') {
      throw new RpcError('invalid_params', {
        data: {
          issues: [{ path: '', message: 'needs a stream: use WebSocket or Accept: text/event-stream, or events.list' }],
        },
      });
    }
    // Counts the subscription before the first await, so that parallel calls cannot exceed the limit.
    const leave = takePlace(services.store, context.caller.keyId);
    const subscriptionId = services.ids.next(SUBSCRIPTION_PREFIX);
    const stop = new AbortController();
    connection?.streams.set(subscriptionId, () => {
      stop.abort();
      leave();
    });
    const after = params.after ?? requestMetadata.lastEventId;
    let follower: Follower;
    try {
      follower = await followEvents(services, { event: params.event, after }, AbortSignal.any([signal, stop.signal]));
    } catch (error) {
      connection?.streams.delete(subscriptionId);
      leave();
      throw error;
    }
    const result = { subscribed: true as const, subscription_id: subscriptionId, cursor: follower.cursor };
    if (connection === undefined) {
      // Over SSE the call lasts as long as the stream; it is answered when the client disconnects.
      try {
        await context.notify(NOTIFICATIONS.subscribed, result, follower.cursor);
        await send(follower, subscriptionId, context, signal);
      } finally {
        leave();
      }
    } else {
      connection.afterReply(() => {
        send(follower, subscriptionId, context, stop.signal)
          .catch((error: unknown) => services.log.error('a subscription ended', errorFields(error)))
          .finally(() => {
            connection.streams.delete(subscriptionId);
            leave();
          });
      });
    }
    return result;
  },
});

async function send(
  follower: Follower,
  subscriptionId: string,
  { notify, notifyShared }: MethodContext,
  signal: AbortSignal,
): Promise<void> {
  for await (const { id, document, cursor } of follower.read(signal)) {
    if (signal.aborted) return;
    const own = { subscription_id: subscriptionId, cursor };
    if (notifyShared === undefined)
      await notify(NOTIFICATIONS.webhookEvent, { ...own, ...toRecordedEvent(id, document) }, cursor);
    else await notifyShared(NOTIFICATIONS.webhookEvent, own, formOf(id, document), cursor);
  }
}

function formOf(id: string, document: EventDocument): SharedParams {
  const known = forms.get(document);
  if (known !== undefined) return known;
  const event = toRecordedEvent(id, document);
  const bytes = Buffer.from(escapeLineEnds(JSON.stringify(event)).slice(1, -1));
  const omitted = {
    bytes: bytes.length,
    message: 'larger than a message: events.list over HTTP returns the whole event',
  };
  const made = { bytes, brief: JSON.stringify({ ...event, data: null, omitted }).slice(1, -1) };
  forms.set(document, made);
  return made;
}
