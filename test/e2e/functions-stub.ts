// A function of a few lines under the real CLI and the real hardening, to show what framework.ts guarantees whatever its handler does.
import { once } from 'node:events';
import { hardenFramework } from '../../functions/framework.ts';
import { pathOf, readBody, requestIdOf, sendError, sendJson } from '../../functions/http.ts';
import { createOrigins } from '../../shared/auth/origins.ts';
import { RpcError, toRpcError } from '../../shared/errors.ts';
import { createLogger } from '../../shared/log.ts';

const log = createLogger({ format: 'json' });
let holding = 0;

hardenFramework({
  log,
  origins: createOrigins(new Set(), log),
  drainTimeoutMs: Number(process.env.DRAIN_MS ?? 8000),
  finish: async (graceMs) => log.log('INFO', 'finish was called', { grace_ms: graceMs }),
  close: async () => log.log('INFO', 'close was called', { holding }),
  async handler(req, res) {
    const path = pathOf(req);
    if (path === '/throw') throw new Error('a secret detail');
    if (path === '/reject') {
      Promise.reject(new Error('nobody waits for this'));
      return sendJson(res, 200, {});
    }
    if (path === '/rss') return sendJson(res, 200, { rss: process.memoryUsage.rss() });
    if (path === '/holding') return sendJson(res, 200, { holding });
    if (path === '/hold') {
      holding++;
      // The test decides when, with a signal: by then the drain accepts no connection to say it on.
      await once(process, 'SIGUSR2');
      holding--;
      return sendJson(res, 200, { held: true });
    }
    try {
      if (req.headers['x-api-key'] === undefined) throw new RpcError('unauthorized');
      const body = await readBody(req);
      sendJson(res, 200, { bytes: body.length });
    } catch (error) {
      sendError(res, toRpcError(error), requestIdOf(req));
    }
  },
});

/** Where express would have sent a request; never called. */
export function stub(): void {
  throw new Error('the framework called express');
}
