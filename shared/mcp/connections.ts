// The MCP servers that keys have connected: which key owns which connection, how many there may be, and when they end.
// The protocol is in client.ts; processes start in the sandbox only.

import { createHash } from 'node:crypto';
import { deadline, settledWithin } from '../async.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import { RpcError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { createConnector, type ServerConfig } from './connect.ts';
import { type Link, type McpCall, type McpConnection, openLink } from './link.ts';
import { createRegistry, type Entry, type McpHandle } from './registry.ts';
import type { McpResult } from './result.ts';
import type { StdioServers } from './stdio-servers.ts';
import { type McpToolset, toToolset } from './tools.ts';

export interface McpDeps {
  readonly stdioServers: StdioServers;
  readonly log: Logger;
  readonly clock: Clock;
  /** Registered by the administrator, by name; those that are processes are known where processes start. */
  readonly servers: Config['mcpServers'];
  /** Default 15 minutes without a call. */
  readonly idleMs?: number;
}

/**
 * Every method that takes a handle throws the same RpcError `not_found` for a connection that is missing, has ended or
 * belongs to another key. A handle may omit the session as long as the key has connected the name only once.
 */
export interface Mcp {
  /**
   * Connects, or returns the open connection when it was made with the same configuration; another configuration is
   * `conflict`. Throws `unavailable` when there are too many connections, else as client.ts.
   */
  connect(
    handle: McpHandle,
    request: {
      readonly config: ServerConfig;
      readonly allowedTools: readonly string[] | undefined;
      readonly requestId: string;
      readonly signal: AbortSignal;
    },
  ): Promise<McpConnection>;
  call(handle: McpHandle, call: McpCall): Promise<McpResult>;
  /** Connections of a key; of one session when `sessionId` is given. */
  list(owner: string, sessionId: string | undefined): readonly McpConnection[];
  /**
   * Lists the tools of HTTP servers again and waits for changes that other servers have announced, a few seconds at
   * most. Never rejects.
   */
  refresh(owner: string, sessionId: string | undefined, signal: AbortSignal): Promise<void>;
  /** Resolves with the handle that the connection was made with. */
  disconnect(handle: McpHandle): Promise<McpHandle>;
  /** Ends all connections of a session. */
  endSession(session: { readonly owner: string; readonly sessionId: string }): Promise<void>;
  /**
   * Waits for the tools of the session's servers that have announced a change, a few seconds at most. Never rejects.
   */
  toolsReady(owner: string, sessionId: string): Promise<void>;
  /** The tools that a prompt of this session may use; undefined when nothing is connected. */
  toolset(owner: string, sessionId: string): McpToolset | undefined;
  /** Ends all connections and refuses new ones. */
  close(): Promise<void>;
}

const IDLE_MS = 15 * 60_000;
/** Time for listing the tools of all servers at once. */
const REFRESH_MS = 5_000;

export function createMcp({ stdioServers, log, clock, servers, idleMs = IDLE_MS }: McpDeps): Mcp {
  const registry = createRegistry(idleMs);
  const connector = createConnector({ stdioServers, log, servers });
  const closing = new AbortController();

  const call = (handle: McpHandle, request: McpCall): Promise<McpResult> =>
    registry.using(handle, ({ open }) =>
      open.call({ ...request, signal: AbortSignal.any([request.signal, closing.signal]) }),
    );

  const linksOf = (owner: string, sessionId: string | undefined): Link[] =>
    registry.of(owner, sessionId).flatMap(({ open }) => open ?? []);

  /** The open connection when it was made with the same configuration. */
  const reuse = async (entry: Entry, fingerprint: string, signal: AbortSignal): Promise<McpConnection> => {
    const { handle, open } = entry;
    if (entry.fingerprint !== fingerprint || open === undefined) {
      throw new RpcError('conflict', {
        message:
          `"${handle.name}" is connected with another configuration, or just being connected: mcp.disconnect ` +
          'first',
        retryable: open === undefined,
      });
    }
    // A running process is a live connection; a server behind HTTP may have forgotten the session or have stopped.
    if (open.connection.transport === 'http') await registry.using(handle, () => open.refresh(signal));
    return open.connection;
  };

  return {
    async connect(handle, { config, allowedTools, requestId, signal }) {
      if (closing.signal.aborted) throw stopping();
      const fingerprint = createHash('sha256')
        .update(JSON.stringify([config, allowedTools]))
        .digest('base64');
      const existing = registry.get(handle);
      if (existing !== undefined) return reuse(existing, fingerprint, signal);
      const allowed = allowedTools && new Set(allowedTools);
      // The place is taken before the first await, so that concurrent calls cannot all find it free.
      const entry = registry.reserve({ handle, fingerprint, allowed });
      try {
        const both = AbortSignal.any([signal, closing.signal]);
        const plan = connector.plan(handle, config, requestId);
        const { name, sessionId } = handle;
        const link = await openLink({ name, sessionId, plan, allowed, clock, closing: closing.signal }, both);
        registry.opened(entry, link);
        return link.connection;
      } catch (error) {
        registry.remove(entry);
        throw error;
      }
    },

    call,

    list: (owner, sessionId) => linksOf(owner, sessionId).map(({ connection }) => connection),

    async refresh(owner, sessionId, signal) {
      const within = deadline(REFRESH_MS, signal);
      const refreshes = linksOf(owner, sessionId).map((link) =>
        link.connection.transport === 'http' ? link.refresh(within) : link.ready(),
      );
      await settledWithin(REFRESH_MS, Promise.allSettled(refreshes));
    },

    async disconnect(handle) {
      const entry = registry.find(handle);
      await registry.end(entry);
      return entry.handle;
    },

    async endSession({ owner, sessionId }) {
      const open = registry.of(owner, sessionId).filter((entry) => entry.open !== undefined);
      await Promise.all(open.map(registry.end));
    },

    async toolsReady(owner, sessionId) {
      await settledWithin(REFRESH_MS, Promise.allSettled(linksOf(owner, sessionId).map((link) => link.ready())));
    },

    toolset: (owner, sessionId) =>
      toToolset(
        linksOf(owner, sessionId).map(({ connection }) => connection),
        (name, request) => call({ owner, sessionId, name }, request),
      ),

    async close() {
      closing.abort(stopping());
      await registry.endAll();
      await connector.close();
    },
  };
}

function stopping(): RpcError {
  return new RpcError('unavailable', { message: 'The gateway is stopping', retryAfterMs: 1_000 });
}
