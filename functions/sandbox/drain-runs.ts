// When the service stops: rejects new commands, and waits until the running ones have ended and are answered.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { settledWithin } from '../../shared/async.ts';
import { RpcError } from '../../shared/errors.ts';
import type { Handlers } from '../../shared/sandbox-link/link/link.ts';

export interface DrainableHandlers {
  readonly handlers: Handlers;
  /**
   * Rejects further commands with `unavailable`. Resolves when all running ones are answered, at the latest after
   * `graceMs`.
   */
  drain(graceMs: number): Promise<void>;
}

const RUN = 'command.run';

export function createDrainableHandlers(handlers: Handlers): DrainableHandlers {
  const running = new Set<Promise<unknown>>();
  let isStopping = false;
  return {
    handlers: {
      ...handlers,
      async [RUN](params, context) {
        if (isStopping) {
          throw new RpcError('unavailable', {
            message: 'The sandbox service is stopping; nothing was started',
            data: { may_have_effect: false },
          });
        }
        const run = handlers[RUN]?.(params, context) ?? Promise.resolve();
        running.add(run);
        try {
          return await run;
        } finally {
          running.delete(run);
        }
      },
    },
    async drain(graceMs) {
      isStopping = true;
      await settledWithin(graceMs, Promise.allSettled(running));
      // The link sends the answer after the handler has returned, so one more turn of the event loop is needed.
      await nextTurn();
    },
  };
}
