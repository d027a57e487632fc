// The HTTP server of the sandbox service: links at their path for the gateway, `GET /health`, and nothing else.
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import type { OidcOptions } from '../../shared/auth/oidc.ts';
import type { SandboxServiceConfig } from '../../shared/config/sandbox-service.ts';
import { RpcError, toRpcError } from '../../shared/errors.ts';
import { errorFields, type Logger } from '../../shared/log.ts';
import { PATHS } from '../../shared/protocol.ts';
import { createBubblewrapSandbox, workspacesOf } from '../../shared/sandbox/bubblewrap.ts';
import { mayBeSandboxed } from '../../shared/sandbox/network/local-peer.ts';
import { createCallerCheck } from '../../shared/sandbox-link/auth.ts';
import { createLinkServer } from '../../shared/sandbox-link/link/connect/link-server.ts';
import type { LinkTimes } from '../../shared/sandbox-link/link/link.ts';
import { createLinkHandlers } from '../../shared/sandbox-link/server/handlers.ts';
import { createLocalPorts, type LocalPorts, type LocalPortsDeps } from '../../shared/sandbox-ports/local.ts';
import { type HttpHandler, pathOf, requestIdOf, sendError, sendJson } from '../server/http.ts';
import { createHttpServer, type HttpServer } from '../server/node-server.ts';
import { createDrainableHandlers } from './drain-runs.ts';

type OnTerminalEnded = LocalPortsDeps['onTerminalEnded'];

export interface SandboxServer {
  /** Not listening yet. */
  readonly http: HttpServer;
  readonly ports: LocalPorts;
  /**
   * Refuses new commands, waits up to `graceMs` for those that run, then ends everything: links, processes and
   * connections.
   */
  stop(graceMs: number): Promise<void>;
}

export interface SandboxServerOptions extends OidcOptions {
  /** Instead of the ports of this machine's sandbox. */
  readonly createPorts?: (onTerminalEnded: OnTerminalEnded) => LocalPorts;
  readonly times?: Partial<LinkTimes>;
}

export function createSandboxServer(
  config: SandboxServiceConfig,
  log: Logger,
  options: SandboxServerOptions = {},
): SandboxServer {
  const create = options.createPorts ?? ((onTerminalEnded) => createPorts(config, log, onTerminalEnded));
  const ports = create(({ owner, sessionId, exitCode, durationMs }) => {
    const params = { owner, session: sessionId, exit_code: exitCode, duration_ms: durationMs };
    for (const link of links.links) link.notify('terminal.ended', params);
  });
  const { handlers, drain } = createDrainableHandlers(createLinkHandlers(ports));
  const check = createCallerCheck(config.admission, options);
  const links = createLinkServer({
    handlers,
    log,
    authorize: async ({ headers }, signal) => {
      try {
        await check(headers, { signal });
        return true;
      } catch (error) {
        if (error instanceof RpcError && error.reason === 'unauthorized') return false;
        throw error;
      }
    },
    sandbox: {
      bootId: crypto.randomUUID(),
      startedAtMs: Date.now(),
      ...(ports.codexHosts.version !== undefined && { codexVersion: ports.codexHosts.version }),
    },
    onLink: ({ id, over }) => over.addEventListener('abort', () => void ports.codexHosts.endLink(id), { once: true }),
    ...(options.times !== undefined && { times: options.times }),
  });
  const http = createHttpServer(answer);
  if ([...config.servers.values()].some(({ network }) => network)) refuseSandboxes(http, log);
  http.on('upgrade', (req, stream: Duplex, head: Buffer) => links.handleUpgrade(req, stream, head));
  return {
    http,
    ports,
    async stop(graceMs) {
      const closed = new Promise<void>((resolve) => http.close(() => resolve()));
      await drain(graceMs);
      await links.close('the sandbox service is stopping');
      await ports.close();
      http.closeAllConnections();
      await closed;
    },
  };
}

/** Before a byte is read. */
function refuseSandboxes(http: HttpServer, log: Logger): void {
  let isLogged = false;
  http.prependListener('connection', (socket) => {
    if (!mayBeSandboxed(socket)) return;
    socket.destroy();
    if (!isLogged) log.warn('a connection was refused: it may come from a process in a sandbox (logged once)');
    isLogged = true;
  });
}

const answer: HttpHandler = (req, res) => {
  try {
    if (pathOf(req) !== PATHS.health)
      throw new RpcError('not_found', { message: `Not found: this service serves ${PATHS.health}` });
    if (req.method !== 'GET' && req.method !== 'HEAD') {
      throw new RpcError('method_not_allowed', { data: { allow: 'GET, HEAD' } });
    }
    sendJson(res, 200, { status: 'healthy' });
  } catch (error) {
    sendError(res, toRpcError(error), requestIdOf(req));
  }
};

function createPorts(
  { dataDir, isDiskMemory, searchPath, servers, codexProgram: program }: SandboxServiceConfig,
  log: Logger,
  onTerminalEnded: OnTerminalEnded,
): LocalPorts {
  const sandbox = createBubblewrapSandbox({ directory: workspacesOf(dataDir), path: searchPath, isDiskMemory });
  const warn = (message: string, error: unknown): void =>
    log.warn(message, error === undefined ? {} : errorFields(error));
  const codex = { program, directory: join(dataDir, 'codex'), warn };
  return createLocalPorts({ sandbox, servers, codex, onTerminalEnded });
}
