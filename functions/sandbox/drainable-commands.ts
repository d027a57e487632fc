// The Commands port of a service that can stop: no new command then, and those that run come to their end.
import { settledWithin } from '../../shared/async.ts';
import { RpcError } from '../../shared/errors.ts';
import type { Commands } from '../../shared/sandbox/commands.ts';

export interface DrainableCommands {
  readonly commands: Commands;
  /** Refuses further commands with `unavailable`; resolves when all have ended, at the latest after `graceMs`. */
  drain(graceMs: number): Promise<void>;
}

export function createDrainableCommands(commands: Commands): DrainableCommands {
  const running = new Set<Promise<unknown>>();
  let isStopping = false;
  return {
    commands: {
      available: commands.available,
      async run(command, options) {
        if (isStopping) {
          throw new RpcError('unavailable', {
            message: 'The sandbox service is stopping; nothing was started',
            data: { may_have_effect: false },
          });
        }
        const run = commands.run(command, options);
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
    },
  };
}
