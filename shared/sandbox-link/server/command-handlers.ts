// Serves the Commands port to a link.
import { RpcError } from '../../errors.ts';
import { checkEnvironment } from '../../sandbox/commands/environment.ts';
import type { Commands } from '../../sandbox/commands.ts';
import type { HandlerContext, Handlers, Link, LinkStream } from '../link/link.ts';
import { CancelParams, CommandSpec, RunParams, readParams, STDIN_BYTES_MAX } from '../messages.ts';
import { endOf, writeTo } from '../streams.ts';
import { type Specs, withStreams } from './specs.ts';
import type { Starts } from './starts.ts';

export interface CommandHandlersDeps {
  readonly commands: Commands;
  readonly starts: Starts;
  readonly specs: Specs;
}

export function createCommandHandlers({ commands, starts, specs }: CommandHandlersDeps): Handlers {
  const running = new WeakMap<Link, Map<string, AbortController>>();

  async function run(params: unknown, context: HandlerContext, take: (id: number) => LinkStream): Promise<unknown> {
    const request = readParams(RunParams, params);
    const [spec, io, errors] = [take(request.spec), take(request.io), take(request.errors)];
    const { argv, cwd, env } = await specs.read(CommandSpec, spec, context);
    const issues = checkEnvironment(env ?? {});
    if (issues.length > 0) throw new RpcError('invalid_params', { data: { issues } });
    const stdin = await specs.readBytes(io, STDIN_BYTES_MAX, context);
    starts.enter(request.start_id);
    const { signal, done } = begin(context, request.start_id);
    let errorBytes = 0;
    const result = await commands
      .run(
        { keyId: request.owner, argv, cwd, env },
        {
          signal,
          timeoutMs: request.timeout_ms,
          outputBytesMax: request.output_bytes_max,
          stdin: request.has_stdin ? stdin : undefined,
          onOutput(stream, bytes) {
            if (stream === 'stderr') errorBytes += bytes.length;
            return writeTo(stream === 'stdout' ? io : errors, bytes);
          },
        },
      )
      .finally(done);
    await Promise.all([endOf(io), endOf(errors)]);
    return {
      exit_code: result.exitCode,
      ...(result.signal !== undefined && { signal: result.signal }),
      timed_out: result.timedOut,
      truncated: result.truncated,
      is_full: result.isFull === true,
      notice: result.stderr.toString('utf8', errorBytes),
      duration_ms: result.durationMs,
    };
  }

  /** Returns a signal that `command.cancel` or the end of the link aborts. */
  function begin({ link, signal }: HandlerContext, startId: string) {
    const own = running.get(link) ?? new Map<string, AbortController>();
    const cancelled = new AbortController();
    running.set(link, own.set(startId, cancelled));
    return { signal: AbortSignal.any([signal, cancelled.signal]), done: () => own.delete(startId) };
  }

  return {
    'sandbox.available': () => commands.available(),
    'command.run': (params, context) => withStreams(context.link, (take) => run(params, context, take)),
    async 'command.cancel'(params, { link }) {
      const { start_id: startId } = readParams(CancelParams, params);
      running.get(link)?.get(startId)?.abort(new RpcError('cancelled'));
    },
  };
}
