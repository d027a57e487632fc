// The StdioServers port in this process: each server runs in its own sandbox. Decides what a registered server may read
// and reach.
import { randomUUID } from 'node:crypto';
import type { McpServer } from '../config/config.ts';
import { RpcError } from '../errors.ts';
import type { Sandbox, SandboxSpec } from '../sandbox/sandbox.ts';
import type { StdioServer, StdioServers } from './stdio-servers.ts';

export interface LocalStdioServersDeps {
  readonly sandbox: Pick<Sandbox, 'spawn'>;
  /** Servers that the administrator registered, by name. Those with a URL are not started here. */
  readonly servers: ReadonlyMap<string, McpServer>;
}

type RegisteredServer = Extract<McpServer, { readonly command: string }>;

export interface LocalStdioServers extends StdioServers {
  /** The keys of the sandbox that registered servers of an owner run with, beside the owner's own. */
  keysOf(owner: string): readonly string[];
}

export function createLocalStdioServers({ sandbox, servers }: LocalStdioServersDeps): LocalStdioServers {
  const toSpec = (owner: string, server: StdioServer): SandboxSpec => {
    if ('command' in server) return { keyId: owner, argv: [server.command, ...server.args], env: server.env };
    const registered = servers.get(server.registered);
    if (registered === undefined || 'url' in registered) throw notRegistered(server.registered);
    return toRegisteredSpec(owner, server.registered, registered);
  };

  const bootId = randomUUID();
  return {
    keysOf: (owner) => [...servers.keys()].map((name) => keyOf(owner, name)),
    isCurrent: () => true,
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
 * A registered server with secrets or network access gets its own home per key. In the caller's home, a file of the
 * caller (a Python module, a start file of a shell) would run with the secrets and the network access of the server.
 */
function toRegisteredSpec(owner: string, name: string, server: RegisteredServer): SandboxSpec {
  const isTrusted = server.network || Object.keys(server.env).length > 0;
  return {
    keyId: isTrusted ? keyOf(owner, name) : owner,
    argv: [server.command, ...server.args],
    env: server.env,
    readOnly: server.paths.map((path) => ({ from: path, to: path })),
    network: server.network,
  };
}

function notRegistered(name: string): RpcError {
  return new RpcError('not_found', {
    message: `Not found: no MCP server is registered as "${name}"; set command or url`,
  });
}

function keyOf(owner: string, name: string): string {
  return `\0mcp\0${name}\0${owner}`;
}
