// `events.subscribe`: webhook events as they arrive, after a replay of what was missed.
import { z } from 'zod';
import { RpcError } from '../errors.ts';
import { CURSOR_CHARS_MAX } from '../events/follow-cursor.ts';
import { type Follower, followEvents } from '../events/follow-events.ts';
import { errorFields } from '../log.ts';
import { type Connection, defineMethod, type MethodContext } from './define-method.ts';
import { toRecordedEvent } from './events.list.ts';

/** Prefix of the ids under which a connection keeps its subscriptions. */
export const SUBSCRIPTION_PREFIX = 'sub';
const SUBSCRIPTIONS_MAX = 8;

export const eventsSubscribe = defineMethod({
  name: 'events.subscribe',
  summary: 'Sends webhook events as `event` notifications, live, after those missed since a cursor (WebSocket and SSE)',
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
        '`cursor` or `event_id` of the last event seen, or `next_cursor` of events.list oldest first; from now on when absent',
      ),
  }),
  result: z.object({
    subscribed: z.literal(true),
    subscription_id: z.string(),
    cursor: z.string().describe('Where the subscription starts'),
  }),
  errors: ['conflict', 'unavailable'],
  example: {
    params: { event: 'deployment.success' },
    result: { subscribed: true, subscription_id: 'sub_1', cursor: 'live.mi2k7q00.' },
  },
  async handle(params, context) {
    const { services, signal, connection, transport, hints } = context;
    if (transport === 'http') {
      throw new RpcError('invalid_params', {
        data: {
          issues: [{ path: '', message: 'needs a stream: use WebSocket or Accept: text/event-stream, or events.list' }],
        },
      });
    }
    if (connection !== undefined) checkRoom(connection);
    const subscriptionId = services.ids.next(SUBSCRIPTION_PREFIX);
    const stop = new AbortController();
    // The place is taken before anything is awaited, so that calls made at once cannot all find it free.
    connection?.streams.set(subscriptionId, () => stop.abort());
    const after = params.after ?? hints.lastEventId;
    let follower: Follower;
    try {
      follower = await followEvents(services, { event: params.event, after }, AbortSignal.any([signal, stop.signal]));
    } catch (error) {
      connection?.streams.delete(subscriptionId);
      throw error;
    }
    const result = { subscribed: true as const, subscription_id: subscriptionId, cursor: follower.cursor };
    if (connection === undefined) {
      // The stream is the call: it is answered when the reader goes.
      await context.notify('events.subscribed', result, follower.cursor);
      await send(follower, subscriptionId, context, signal);
    } else {
      connection.afterReply(() => {
        send(follower, subscriptionId, context, stop.signal)
          .catch((error: unknown) => services.log.log('ERROR', 'a subscription ended', errorFields(error)))
          .finally(() => connection.streams.delete(subscriptionId));
      });
    }
    return result;
  },
});

async function send(
  follower: Follower,
  subscriptionId: string,
  { notify }: MethodContext,
  signal: AbortSignal,
): Promise<void> {
  for await (const { id, document, cursor } of follower.read(signal)) {
    if (signal.aborted) return;
    const params = { subscription_id: subscriptionId, ...toRecordedEvent(id, document), cursor };
    await notify('event', params, cursor);
  }
}

function checkRoom({ streams }: Connection): void {
  const count = [...streams.keys()].filter((id) => id.startsWith(`${SUBSCRIPTION_PREFIX}_`)).length;
  if (count < SUBSCRIPTIONS_MAX) return;
  throw new RpcError('conflict', {
    message: `at most ${SUBSCRIPTIONS_MAX} subscriptions per connection`,
    data: { limit: SUBSCRIPTIONS_MAX },
    retryable: false,
  });
}
