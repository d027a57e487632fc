// The StdioServers port in this process: a sandbox for each server. Decides what a registered one may read and reach.
import { randomUUID } from 'node:crypto';
import type { McpServer } from '../config/config.ts';
import { RpcError } from '../errors.ts';
import type { Sandbox, SandboxSpec } from '../sandbox/sandbox.ts';
import type { StdioServer, StdioServers } from './stdio-servers.ts';

export interface LocalStdioServersDeps {
  readonly sandbox: Pick<Sandbox, 'spawn'>;
  /** Registered by the administrator, by name; those with a URL are no processes. */
  readonly servers: ReadonlyMap<string, McpServer>;
}

type RegisteredServer = Extract<McpServer, { readonly command: string }>;

export function createLocalStdioServers({ sandbox, servers }: LocalStdioServersDeps): StdioServers {
  const toSpec = (owner: string, server: StdioServer): SandboxSpec => {
    if ('command' in server) return { keyId: owner, argv: [server.command, ...server.args], env: server.env };
    const registered = servers.get(server.registered);
    if (registered === undefined || 'url' in registered) throw notRegistered(server.registered);
    return toRegisteredSpec(owner, server.registered, registered);
  };

  const bootId = randomUUID();
  return {
    async start(owner, server, signal) {
      signal.throwIfAborted();
      const child = await sandbox.spawn(toSpec(owner, server));
      if (signal.aborted) await child.kill();
      signal.throwIfAborted();
      const { stdin, stdout, stderr, exited } = child;
      return { bootId, stdin, stdout, stderr, exited, kill: (graceMs) => child.kill(graceMs) };
    },
  };
}

/**
 * A registered server that holds secrets or has the network gets a home of its own per key: in the caller's home, a
 * file that the caller has put there (a Python module, a shell's start file) would run with the server's secrets and
 * network.
 */
function toRegisteredSpec(owner: string, name: string, server: RegisteredServer): SandboxSpec {
  const isTrusted = server.network || Object.keys(server.env).length > 0;
  return {
    keyId: isTrusted ? `\0mcp\0${name}\0${owner}` : owner,
    argv: [server.command, ...server.args],
    env: server.env,
    readOnly: server.paths.map((path) => ({ from: path, to: path })),
    network: server.network,
  };
}

function notRegistered(name: string): RpcError {
  return new RpcError('not_found', {
    message: `Not found: no MCP server is registered as "${name}"; give command or url`,
  });
}
