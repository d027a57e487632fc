// `auth.limits`: returns the remaining calls of the caller's key in each rate window. Response headers contain the
// tightest window only.
import { z } from 'zod';
import { toLimitRef, toLimitState } from '../rate-limit/windows/limit-document.ts';
import { report } from '../rate-limit/windows/windows.ts';
import { defineMethod } from './define-method.ts';

export const authLimits = defineMethod({
  name: 'auth.limits',
  summary: 'Returns the caller’s key id, its scopes and the remaining calls of each rate window; costs no call',
  scope: null,
  cost: 'free',
  params: z.strictObject({}),
  result: z.object({
    key_id: z.string(),
    scopes: z.array(z.string()),
    windows: z.array(
      z.object({
        window_seconds: z.number(),
        limit: z.int(),
        remaining: z.int(),
        reset: z.int().describe('End of the window, epoch seconds'),
      }),
    ),
  }),
  errors: ['unavailable'],
  example: {
    params: {},
    result: {
      key_id: 'default',
      scopes: ['conversation', 'workspace'],
      windows: [
        { window_seconds: 60, limit: 100, remaining: 99, reset: 1763043660 },
        { window_seconds: 3600, limit: 1000, remaining: 993, reset: 1763046000 },
      ],
    },
  },
  async handle(_params, { services, caller, signal }) {
    const [snapshot] = await services.store.get([toLimitRef(caller.keyId)], { signal });
    return {
      key_id: caller.keyId,
      scopes: [...caller.scopes],
      windows: report(toLimitState(snapshot), caller.limits, services.clock.now()).map((window) => ({
        window_seconds: window.limit.windowMs / 1_000,
        limit: window.limit.max,
        remaining: window.remaining,
        reset: Math.ceil(window.resetAtMs / 1_000),
      })),
    };
  },
});
