// The MCP servers that keys have connected. Connections are stored (records.ts), so any instance can serve them; open
// connections are in the memory of the instance that uses them (registry.ts). An instance without an open connection
// connects to a URL again, or starts the process again. The protocol is implemented in client.ts. Processes start only
// in the sandbox.
import { deadline, settledWithin } from '../async.ts';
import type { KeyWrapper } from '../auth/logins/envelope.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import type { Logger } from '../log.ts';
import type { Store } from '../store/store.ts';
import { type ConnectRequest, createConnect } from './connect.ts';
import { createOpener } from './opener.ts';
import type { Connected } from './records/documents.ts';
import type { McpHandle } from './records/find-connected.ts';
import { findConnected, isOf, notFound } from './records/find-connected.ts';
import { createMcpRecords } from './records/records.ts';
import { openSession } from './session-servers.ts';
import type { StdioServers } from './stdio-servers.ts';
import type { McpCall, McpConnection } from './tools/mcp-connection.ts';
import type { McpResult } from './tools/result.ts';
import { type McpToolset, toToolset } from './tools/tools.ts';

export interface McpDeps {
  readonly stdioServers: StdioServers;
  readonly log: Logger;
  readonly clock: Clock;
  readonly store: Store;
  /** Encrypts configurations; undefined: no encryption key is configured. */
  readonly wrapper: KeyWrapper | undefined;
  /**
   * Servers with a URL that the administrator registered, by name. Registered commands are configured where processes
   * start.
   */
  readonly servers: Config['mcpServers'];
  /** A connection without a call for this long is closed. Default 15 minutes. */
  readonly idleMs?: number;
}

/**
 * Every method that takes a handle throws the same RpcError `not_found` for a connection that does not exist, has ended
 * or belongs to another key. A handle may omit the session if the key has connected the name only once. All methods
 * throw `unavailable` when the store cannot be reached.
 */
export interface Mcp {
  /**
   * Connects a server, or returns the existing connection if its configuration is the same; with another configuration,
   * throws `conflict`. Throws `unavailable` when there are too many connections, and the errors of client.ts and
   * configuration.ts.
   */
  connect(handle: McpHandle, request: ConnectRequest): Promise<McpConnection>;
  call(handle: McpHandle, call: McpCall): Promise<McpResult>;
  /** Lists the connections of a key, or of one session if `sessionId` is given. Connects to no server. */
  list(owner: string, sessionId: string | undefined): Promise<readonly McpConnection[]>;
  /**
   * Lists the tools of HTTP servers again, and waits for the changes that other servers have announced, at most a few
   * seconds. Never rejects.
   */
  refresh(owner: string, sessionId: string | undefined, signal: AbortSignal): Promise<void>;
  /** Resolves with the complete handle of the connection, and whether it was the last one of its session. */
  disconnect(handle: McpHandle): Promise<{ readonly handle: McpHandle; readonly isLast: boolean }>;
  /** Ends all connections of a key. */
  endOwner(owner: string): Promise<void>;
  /** Ends all connections of a session. */
  endSession(session: { readonly owner: string; readonly sessionId: string }): Promise<void>;
  /**
   * Returns the tools that a prompt of this session may use, with all changes that the servers have announced. Opens
   * the connections that are not open on this instance; the tools of servers that cannot be reached are returned as
   * omitted. Undefined if no server is connected.
   */
  toolset(owner: string, sessionId: string, signal: AbortSignal): Promise<McpToolset | undefined>;
  /** Closes the open connections and refuses new ones. The stored connections remain. */
  close(): Promise<void>;
}

const IDLE_MS = 15 * 60_000;
/** Deadline for listing the tools of all servers concurrently. */
const REFRESH_MS = 5_000;

export function createMcp({ idleMs = IDLE_MS, ...deps }: McpDeps): Mcp {
  const { clock, store, wrapper } = deps;
  const records = createMcpRecords({ store, clock, idleMs });
  const opener = createOpener({ ...deps, idleMs, records });
  const { registry, closing } = opener;

  const call = async (handle: McpHandle, request: McpCall): Promise<McpResult> => {
    const entry = find(await opener.listed(handle.owner), handle);
    const connection = await opener.open(handle.owner, entry, request.signal);
    void records.renew(handle.owner, entry);
    const signal = AbortSignal.any([request.signal, closing]);
    return registry.using(connection, () => connection.live.call({ ...request, signal }));
  };

  const refreshTools = async (owner: string, entry: Connected, signal: AbortSignal): Promise<void> => {
    const open = registry.get(entry.id);
    // A process announces its changes.
    if (entry.transport !== 'http') return open?.live.ready();
    // A connection that is opened now lists its tools.
    const { live } = await opener.open(owner, entry, signal);
    if (open !== undefined) await live.refresh(signal);
  };

  return {
    connect: createConnect({ opener, records, wrapper }),
    call,

    async list(owner, sessionId) {
      const entries = await listOf(owner, sessionId);
      const connections = await Promise.all(
        entries.map(async (entry) => {
          const open = registry.get(entry.id);
          return open?.live.connection ?? (await records.read(owner, entry))?.connection;
        }),
      );
      return connections.filter((connection) => connection !== undefined);
    },

    async refresh(owner, sessionId, signal) {
      const within = deadline(REFRESH_MS, signal);
      const all = listOf(owner, sessionId).then((entries) =>
        Promise.allSettled(entries.map((entry) => refreshTools(owner, entry, within))),
      );
      await settledWithin(REFRESH_MS, all);
    },

    async disconnect(given) {
      const { owner } = given;
      const entries = await opener.listed(owner);
      const { id, session_id, name } = find(entries, given);
      await opener.remove(owner, (entry) => entry.id === id);
      const isLast = !entries.some((entry) => entry.session_id === session_id && entry.id !== id);
      return { handle: { owner, sessionId: session_id ?? undefined, name }, isLast };
    },

    endOwner: (owner) => opener.remove(owner, () => true),

    endSession: ({ owner, sessionId }) => opener.remove(owner, (entry) => entry.session_id === sessionId),

    async toolset(owner, sessionId, signal) {
      const servers = await openSession({ opener, records, listOf }, owner, sessionId, signal);
      return servers && toToolset(servers, (name, request) => call({ owner, sessionId, name }, request));
    },

    close: opener.close,
  };

  async function listOf(owner: string, sessionId: string | undefined): Promise<Connected[]> {
    const entries = await opener.listed(owner);
    return entries.filter((entry) => sessionId === undefined || isOf(entry, sessionId));
  }
}

function find(entries: readonly Connected[], handle: McpHandle): Connected {
  const found = findConnected(entries, handle);
  if (found === undefined) throw notFound();
  return found;
}
