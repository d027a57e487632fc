// `deployment.list`: the state of each service and region, from its newest deployment event.
import { z } from 'zod';
import { createPage } from '../rpc/page.ts';
import { listDeployments } from '../webhooks/feed/list.ts';
import { defineMethod } from './define-method.ts';

const Deployment = z.object({
  service: z.string(),
  region: z.string().describe('`global` if the event has no region'),
  version: z.string().nullable(),
  status: z.string().describe('`data.status`, else the last part of the event name'),
  event: z.string(),
  event_id: z.string(),
  updated_at: z.string().describe('Time of that event, ISO 8601'),
});

export const deploymentList = defineMethod({
  name: 'deployment.list',
  summary: 'Lists the latest deployment state per service and region; a page ends at 1 MiB',
  scope: 'webhook',
  cost: 'read',
  startsEarly: true,
  isBulky: true,
  params: z.strictObject({
    after: z.string().min(1).max(512).optional().describe('`next_cursor` of the previous page'),
    limit: z.int().min(1).max(1000).default(100),
  }),
  result: z.object({
    deployments: z.array(Deployment),
    next_cursor: z.string().optional().describe('Present if there may be more'),
  }),
  example: {
    params: {},
    result: {
      deployments: [
        {
          service: 'wrapper',
          region: 'us-central1',
          version: '486a13c9',
          status: 'healthy',
          event: 'deployment.success',
          event_id: 'evt_9fQyWcIFJgPpH0s7hX0QYt7bXr0pTqkq2Nf1xqB0v3s',
          updated_at: '2025-01-13T10:30:00Z',
        },
      ],
    },
  },
  async handle(params, { services, signal }) {
    const page = createPage<z.input<typeof Deployment>>();
    const { nextCursor } = await listDeployments(services.store, params, {
      signal,
      fits: ({ service, region, version, status, event, event_id, updated_at }) =>
        page.add({ service, region, version, status, event, event_id, updated_at }),
    });
    return { deployments: [...page.items], ...(nextCursor === undefined ? {} : { next_cursor: nextCursor }) };
  },
});
