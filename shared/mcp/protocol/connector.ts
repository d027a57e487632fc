// Connects to a server by its configuration, over the streams of a process or over HTTP. Callers set commands and
// public URLs; only the administrator sets internal addresses. What a process may read and reach is decided where it
// starts (local-stdio-servers.ts).

import { createTokenBuckets } from '../../bounds/token-buckets.ts';
import type { Config } from '../../config/config.ts';
import { type Issue, RpcError } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import type { SafeFetch } from '../../net/safe-fetch.ts';
import { auditCommand } from '../../sandbox/commands/audit.ts';
import { checkEnvironment } from '../../sandbox/commands/environment.ts';
import type { ServerConfig } from '../records/configuration.ts';
import type { McpHandle } from '../records/find-connected.ts';
import type { ServerProcess, StdioServer, StdioServers } from '../stdio-servers.ts';
import type { McpClient } from './client.ts';

export interface Plan {
  readonly transport: 'stdio' | 'http';
  open(signal: AbortSignal, onToolsChanged: () => void): Promise<McpClient>;
  /** Id of the run of the sandbox in which the process was last started; undefined for a URL. */
  bootId(): string | undefined;
}

export interface Connector {
  /**
   * Throws RpcError `invalid_params` for a configuration that is not allowed. A name that is not registered here may be
   * registered in the sandbox service; if it is not, `open` throws `not_found`.
   */
  plan(handle: McpHandle, config: ServerConfig, requestId: string): Plan;
  close(): Promise<void>;
}

/** A call may take minutes until its first byte; its own timeout ends it earlier. */
const HEADERS_MS = 300_000;
/**
 * Headers that a caller must not set: those of the transport and the protocol, and those that the safe fetch would drop
 * without an error.
 */
const HEADERS_REFUSED: readonly RegExp[] = [
  /^(?:host|content-.*|connection|transfer-encoding|te|trailer|upgrade|expect|keep-alive|cookie|proxy-.*)$/i,
  /^(?:x-api-key|x-forwarded-.*|forwarded|x-real-ip|metadata-flavor|x-google-metadata-request)$/i,
  /^(?:accept|mcp-.*|last-event-id)$/i,
];
const HEADER_NAME = /^[!#$%&'*+.^_`|~\w-]{1,128}$/;
const HEADER_VALUE = /^[\t\x20-\x7e]{0,8192}$/;
const HEADERS_MAX = 32;
/**
 * The event loop time in milliseconds that messages of one owner's local servers may use: 200 at once, and 100 per
 * second (a tenth).
 */
const SHARE = { burst: 200, perSecond: 100, keysMax: 1_000 };

export function createConnector(deps: {
  readonly stdioServers: StdioServers;
  readonly log: Logger;
  readonly servers: Config['mcpServers'];
}): Connector {
  const { stdioServers, log, servers: registered } = deps;
  const shares = createTokenBuckets({ clock: { monotonic: () => performance.now() }, ...SHARE });
  /**
   * Under '', the fetch for URLs that callers set. Each registered server has its own fetch, so that it cannot reach
   * the internal origin of another one.
   */
  const fetches = new Map<string, Promise<SafeFetch>>();

  const fetchOf = (name: string, internalOrigins: ReadonlySet<string>): Promise<SafeFetch> => {
    const made = fetches.get(name) ?? loadSafeFetch({ internalOrigins });
    fetches.set(name, made);
    return made;
  };

  const stdio = ({ owner, name }: McpHandle, server: StdioServer, requestId: string): Plan => {
    let bootId: string | undefined;
    const isRegistered = 'registered' in server;
    // The arguments and the output of a registered server may contain secrets that callers must not see.
    const argv = isRegistered ? [name] : [server.command, ...server.args];
    const share = {
      spend: (tookMs: number) => shares.spend(owner, tookMs),
      waitMs: () => Math.ceil(shares.waitMs(owner)),
    };
    const start = async (within: AbortSignal): Promise<ServerProcess> => {
      const startedMs = performance.now();
      const running = await stdioServers.start(owner, server, within);
      bootId = running.bootId;
      void running.exited.then(({ exitCode }) => {
        const durationMs = performance.now() - startedMs;
        auditCommand(log, { requestId, keyId: owner, method: 'mcp.connect', argv, exitCode, durationMs });
      });
      return running;
    };
    return {
      transport: 'stdio',
      bootId: () => bootId,
      async open(signal, onToolsChanged) {
        const { connectStdio } = await import('./connect-stdio.ts');
        return connectStdio({ name, share, showStderr: !isRegistered, signal, onToolsChanged, start });
      },
    };
  };

  const http = (name: string, url: string, headers: Readonly<Record<string, string>>, isRegistered: boolean): Plan => ({
    transport: 'http',
    bootId: () => undefined,
    async open(signal, onToolsChanged) {
      const policy = isRegistered ? fetchOf(name, new Set([new URL(url).origin])) : fetchOf('', new Set());
      const [{ connectHttp }, safeFetch] = await Promise.all([import('./connect-http.ts'), policy]);
      return connectHttp({ name, url, headers, safeFetch, signal, onToolsChanged });
    },
  });

  return {
    plan(handle, config, requestId) {
      if ('command' in config) {
        const { command, args, env } = config;
        throwIfInvalid(checkEnvironment(env));
        return stdio(handle, { command, args, env }, requestId);
      }
      if ('url' in config) {
        throwIfInvalid(checkHeaders(config.headers));
        return http(config.name, config.url, config.headers, false);
      }
      const server = registered.get(config.name);
      if (server !== undefined && 'url' in server) return http(config.name, server.url, server.headers, true);
      return stdio(handle, { registered: config.name }, requestId);
    },

    async close() {
      const made = await Promise.allSettled(fetches.values());
      await Promise.all(made.map((one) => (one.status === 'fulfilled' ? one.value.close() : undefined)));
    },
  };
}

async function loadSafeFetch(policy: { readonly internalOrigins?: ReadonlySet<string> }): Promise<SafeFetch> {
  const { createSafeFetch } = await import('../../net/safe-fetch.ts');
  return createSafeFetch({ ...policy, headersTimeoutMs: HEADERS_MS });
}

function checkHeaders(headers: Readonly<Record<string, string>>): Issue[] {
  const entries = Object.entries(headers);
  if (entries.length > HEADERS_MAX) return [{ path: 'headers', message: `must not be more than ${HEADERS_MAX}` }];
  return entries.flatMap(([name, value]) => {
    const path = `headers.${name.slice(0, 128)}`;
    if (!HEADER_NAME.test(name)) return [{ path, message: 'is not the name of a header' }];
    if (HEADERS_REFUSED.some((form) => form.test(name))) return [{ path, message: 'may not be set' }];
    return HEADER_VALUE.test(value) ? [] : [{ path, message: 'must be at most 8192 printable ASCII characters' }];
  });
}

function throwIfInvalid(issues: readonly Issue[]): void {
  if (issues.length === 0) return;
  throw new RpcError('invalid_params', {
    data: { issues: issues.map(({ path, message }) => ({ path: `server_config.${path}`, message })) },
  });
}
