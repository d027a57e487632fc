// `events.unsubscribe`: ends a subscription of this connection.
import { z } from 'zod';
import { defineMethod } from './define-method.ts';
import { SUBSCRIPTION_PREFIX } from './schemas/event-schemas.ts';

export const eventsUnsubscribe = defineMethod({
  name: 'events.unsubscribe',
  summary: 'Ends a subscription of this WebSocket connection; none of its events is sent after the response',
  scope: 'webhook',
  cost: 'read',
  params: z.strictObject({ subscription_id: z.string().min(1).max(128) }),
  result: z.object({
    unsubscribed: z.boolean().describe('False: this connection has no such subscription'),
    subscription_id: z.string(),
  }),
  example: { params: { subscription_id: 'sub_1' }, result: { unsubscribed: true, subscription_id: 'sub_1' } },
  async handle({ subscription_id }, { connection }) {
    const isOwn = subscription_id.startsWith(`${SUBSCRIPTION_PREFIX}_`);
    const stop = isOwn ? connection?.streams.get(subscription_id) : undefined;
    stop?.();
    if (stop !== undefined) connection?.streams.delete(subscription_id);
    return { unsubscribed: stop !== undefined, subscription_id };
  },
});
