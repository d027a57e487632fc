// `system.health`: the report of `GET /health?verbose=1`, for deployments whose health function reads no keys.
import { z } from 'zod';
import { RpcError } from '../errors.ts';
import { checkDependencies, RECHECK_MS } from './check-dependencies.ts';
import { defineMethod } from './define-method.ts';

export const systemHealth = defineMethod({
  name: 'system.health',
  summary: 'Checks every dependency of the instance; a failed check is answered 503 with all checks in `error.data`',
  scope: 'admin',
  cost: 'read',
  params: z.strictObject({}),
  result: z.object({
    status: z.enum(['healthy', 'degraded']),
    checks: z.record(z.string(), z.object({ status: z.enum(['ok', 'failed']), latency_ms: z.number() })),
    models_passed_over: z
      .array(z.object({ model: z.string(), retry_in_ms: z.number() }))
      .optional()
      .describe('Models that fail repeatedly on this instance: prompts with a fallback do not call them'),
  }),
  errors: ['unavailable'],
  example: {
    params: {},
    result: {
      status: 'healthy',
      checks: {
        store: { status: 'ok', latency_ms: 4.1 },
        bus: { status: 'ok', latency_ms: 12.7 },
        keys: { status: 'ok', latency_ms: 0.1 },
      },
    },
  },
  async handle(_params, { services }) {
    const report = await checkDependencies(services);
    if (report.status === 'healthy') return report;
    const failed = Object.entries(report.checks).filter(([, { status }]) => status === 'failed');
    throw new RpcError('unavailable', {
      message: `Service unavailable: ${failed.map(([name]) => name).join(' and ')} failed the check`,
      data: { ...report },
      retryAfterMs: RECHECK_MS,
    });
  },
});
