// The StdioServers port over a link: the process runs in the sandbox service, and streams of the link carry its
// standard streams.
import { randomUUID } from 'node:crypto';
import { settledWithin } from '../../async.ts';
import type { ServerProcess, StdioServer, StdioServers } from '../../mcp/stdio-servers.ts';
import type { GatewayLink } from '../link/connect/connect-link.ts';
import type { LinkKeeper } from '../link/connect/link-keeper.ts';
import { Exit, Nothing, ServerStartAnswer } from '../messages.ts';
import { closed } from '../streams.ts';
import { call, openLink } from './calls.ts';
import { lost } from './failures.ts';

const WHAT = 'The MCP server';
const GRACE_MS = 2_000;
/** For the answer to `server.kill`, beside the grace; and from then to the end of the streams. */
const KILL_MS = 10_000;
const CLOSE_MS = 5_000;
/** Exit code of a killed process, because the sandbox kills the processes of a link that is over. */
const KILLED = 137;

export function createRemoteStdioServers(keeper: LinkKeeper): StdioServers {
  return {
    isCurrent: (bootId) => keeper.link === undefined || keeper.link.sandbox.bootId === bootId,
    async start(owner, server, signal) {
      signal.throwIfAborted();
      return startOver(await openLink(keeper, signal), owner, server, signal);
    },
  };
}

async function startOver(
  link: GatewayLink,
  owner: string,
  server: StdioServer,
  signal: AbortSignal,
): Promise<ServerProcess> {
  const spec = link.openStream();
  const io = link.openStream();
  const errors = link.openStream();
  try {
    spec.end(JSON.stringify(toSpec(server)));
    spec.resume();
    errors.end();
    const params = { owner, start_id: randomUUID(), spec: spec.id, io: io.id, errors: errors.id };
    const { handle } = await call(link, 'server.start', params, { answer: ServerStartAnswer, what: WHAT, signal });
    const abandoned = new AbortController();
    const wait = { answer: Exit, what: WHAT, signal: abandoned.signal, timeoutMs: Number.POSITIVE_INFINITY };
    const exited = call(link, 'server.wait', { handle }, wait).then(
      ({ exit_code: exitCode }) => ({ exitCode }),
      (error: unknown) => ({ exitCode: KILLED, ...(link.over.aborted && { failure: lost('The call', error) }) }),
    );
    void exited.then(() => io.end());
    const ended = Promise.all([exited, closed(io), closed(errors)]).then(([exit]) => exit);
    return {
      bootId: link.sandbox.bootId,
      ...{ stdin: io, stdout: io, stderr: errors, exited: ended },
      async kill(graceMs = GRACE_MS) {
        const answer = { answer: Nothing, what: WHAT, timeoutMs: graceMs + KILL_MS };
        // The streams are read, because unread output would keep them open.
        io.end();
        io.resume();
        errors.resume();
        await call(link, 'server.kill', { handle, grace_ms: graceMs }, answer).catch(() => io.destroy());
        if (!(await settledWithin(CLOSE_MS, ended))) {
          // The service does not report the end: nothing here waits for it any longer.
          abandoned.abort();
          for (const stream of [io, errors]) stream.destroy();
        }
        await ended;
      },
    };
  } catch (error) {
    for (const stream of [io, errors]) stream.destroy();
    throw error;
  } finally {
    spec.destroy();
  }
}

/** Copies only the known members, so that nothing else is sent. */
function toSpec(server: StdioServer): StdioServer {
  if ('registered' in server) return { registered: server.registered };
  const { command, args, env } = server;
  return { command, args, env };
}
