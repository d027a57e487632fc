// Serves the StdioServers port to a link. A process belongs to the link that started it: its handle is valid only on
// that link, and it ends when the link is over or its streams are reset.
import { randomUUID } from 'node:crypto';
import { RpcError } from '../../errors.ts';
import type { ServerProcess, StdioServers } from '../../mcp/stdio-servers.ts';
import { checkEnvironment } from '../../sandbox/commands/environment.ts';
import type { HandlerContext, Handlers, Link, LinkStream } from '../link/link.ts';
import { readParams, ServerKillParams, ServerParams, ServerSpec, ServerStartParams } from '../messages.ts';
import { joinStreams } from './join-streams.ts';
import { type Specs, withStreams } from './specs.ts';
import type { Starts } from './starts.ts';

export interface ServerHandlersDeps {
  readonly stdioServers: StdioServers;
  readonly starts: Starts;
  readonly specs: Specs;
}

export function createServerHandlers({ stdioServers, starts, specs }: ServerHandlersDeps): Handlers {
  const processes = new WeakMap<Link, Map<string, ServerProcess>>();

  async function start(params: unknown, context: HandlerContext, take: (id: number) => LinkStream): Promise<unknown> {
    const { link, signal } = context;
    const request = readParams(ServerStartParams, params);
    const [spec, io, errors] = [take(request.spec), take(request.io), take(request.errors)];
    const server = await specs.read(ServerSpec, spec, context);
    const issues = 'env' in server ? checkEnvironment(server.env) : [];
    if (issues.length > 0) throw new RpcError('invalid_params', { data: { issues } });
    starts.enter(request.start_id);
    const started = await stdioServers.start(request.owner, server, signal);
    if (signal.aborted || io.destroyed) {
      await started.kill();
      signal.throwIfAborted();
      throw new RpcError('cancelled', { message: 'The streams of the start were reset' });
    }
    return { handle: keep(link, started, io, errors) };
  }

  function keep(link: Link, started: ServerProcess, io: LinkStream, errors: LinkStream): string {
    const handle = randomUUID();
    const own = processes.get(link) ?? new Map<string, ServerProcess>();
    processes.set(link, own.set(handle, started));
    joinStreams(started, io, errors, () => void started.kill());
    return handle;
  }

  const find = (link: Link, handle: string): ServerProcess => {
    const found = processes.get(link)?.get(handle);
    if (found === undefined) throw new RpcError('not_found', { message: 'Not found: no such process runs' });
    return found;
  };

  return {
    'server.start': (params, context) => withStreams(context.link, (take) => start(params, context, take)),
    async 'server.wait'(params, { link }) {
      const { handle } = readParams(ServerParams, params);
      const { exitCode } = await find(link, handle).exited;
      processes.get(link)?.delete(handle);
      return { exit_code: exitCode };
    },
    async 'server.kill'(params, { link }) {
      const { handle, grace_ms: graceMs } = readParams(ServerKillParams, params);
      await processes.get(link)?.get(handle)?.kill(graceMs);
      return null;
    },
  };
}
