// `events.list`: recorded webhook events, newest first unless `order` requests the opposite.
import { z } from 'zod';
import { createPage } from '../rpc/page.ts';
import { listEvents } from '../webhooks/feed/list.ts';
import { defineMethod } from './define-method.ts';
import { RecordedEvent, toRecordedEvent } from './schemas/event-schemas.ts';

export const eventsList = defineMethod({
  name: 'events.list',
  summary: 'Lists recorded webhook events; a page ends at 1 MiB',
  scope: 'webhook',
  cost: 'read',
  startsEarly: true,
  isBulky: true,
  params: z.strictObject({
    event: z.string().min(1).max(128).optional().describe('Only events of this name'),
    after: z.string().min(1).max(512).optional().describe('`next_cursor` of the previous page, or an `event_id`'),
    order: z.enum(['newest', 'oldest']).default('newest'),
    limit: z.int().min(1).max(100).default(20),
  }),
  result: z.object({
    events: z.array(RecordedEvent),
    next_cursor: z.string().optional().describe('Present if there may be more'),
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
