// The MCP servers that keys have connected. Which there are is stored (records.ts), so that any instance serves any of
// them; open connections stay in the memory of the instance that uses them (registry.ts). An instance that has none
// open initialises a server with a URL again, and starts a process again. The protocol is in client.ts; processes start
// in the sandbox only.
import { randomUUID } from 'node:crypto';
import { deadline, settledWithin } from '../async.ts';
import type { KeyWrapper } from '../auth/logins/envelope.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import { RpcError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { Store } from '../store/store.ts';
import { type Configuration, isSame, sealConfiguration } from './configuration.ts';
import type { ServerConfig } from './connect.ts';
import type { Connected } from './documents.ts';
import { findConnected, isOf, notFound } from './find-connected.ts';
import type { McpCall, McpConnection } from './link.ts';
import { createOpener } from './opener.ts';
import { createMcpRecords, PER_KEY_MAX, taken, tooMany } from './records.ts';
import type { McpHandle } from './registry.ts';
import type { McpResult } from './result.ts';
import { openSession } from './session-servers.ts';
import type { StdioServers } from './stdio-servers.ts';
import { type McpToolset, toToolset } from './tools.ts';

export interface McpDeps {
  readonly stdioServers: StdioServers;
  readonly log: Logger;
  readonly clock: Clock;
  readonly store: Store;
  /** Seals configurations; undefined: this deployment has nothing to seal with. */
  readonly wrapper: KeyWrapper | undefined;
  /** Registered by the administrator, by name; those that are processes are known where processes start. */
  readonly servers: Config['mcpServers'];
  /** Default 15 minutes without a call. */
  readonly idleMs?: number;
}

/**
 * Every method that takes a handle throws the same RpcError `not_found` for a connection that is missing, has ended or
 * belongs to another key. A handle may omit the session as long as the key has connected the name only once. All throw
 * `unavailable` when the store cannot be reached.
 */
export interface Mcp {
  /**
   * Connects, or returns the connection when it was made with the same configuration; another configuration is
   * `conflict`. Throws `unavailable` when there are too many connections, else as client.ts and configuration.ts.
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
  /** Connections of a key; of one session when `sessionId` is given. Starts nothing. */
  list(owner: string, sessionId: string | undefined): Promise<readonly McpConnection[]>;
  /**
   * Lists the tools of HTTP servers again and waits for changes that other servers have announced, a few seconds at
   * most. Never rejects.
   */
  refresh(owner: string, sessionId: string | undefined, signal: AbortSignal): Promise<void>;
  /** Resolves with the handle that the connection was made with, and whether its session has no other. */
  disconnect(handle: McpHandle): Promise<{ readonly handle: McpHandle; readonly isLast: boolean }>;
  /** Ends all connections of a session. */
  endSession(session: { readonly owner: string; readonly sessionId: string }): Promise<void>;
  /**
   * The tools that a prompt of this session may use, with all changes that their servers have announced: servers that
   * are not open here are opened, those that cannot be are among its omitted tools. Undefined when nothing is
   * connected.
   */
  toolset(owner: string, sessionId: string, signal: AbortSignal): Promise<McpToolset | undefined>;
  /** Closes what is open here and refuses new connections; what is connected stays connected. */
  close(): Promise<void>;
}

const IDLE_MS = 15 * 60_000;
/** Time for listing the tools of all servers at once. */
const REFRESH_MS = 5_000;

export function createMcp({ idleMs = IDLE_MS, ...deps }: McpDeps): Mcp {
  const { clock, store, wrapper } = deps;
  const records = createMcpRecords({ store, clock, idleMs });
  const opener = createOpener({ ...deps, idleMs, records });
  const { registry, closing } = opener;
  /** Handles that are being connected here, for each key. */
  const connecting = new Map<string, Set<string>>();

  const call = async (handle: McpHandle, request: McpCall): Promise<McpResult> => {
    const entry = find(await opener.listed(handle.owner), handle);
    const connection = await opener.open(handle.owner, entry, request.signal);
    void records.renew(handle.owner, entry);
    const signal = AbortSignal.any([request.signal, closing]);
    return registry.using(connection, () => connection.link.call({ ...request, signal }));
  };

  /** The connection when it was made with the same configuration. */
  const reuse = async (
    handle: McpHandle,
    entry: Connected,
    configuration: Configuration,
    signal: AbortSignal,
  ): Promise<McpConnection> => {
    const connection = await opener.open(handle.owner, entry, signal);
    if (!isSame(connection.configuration, configuration)) {
      throw new RpcError('conflict', {
        message: `"${handle.name}" is connected with another configuration: mcp.disconnect first`,
        retryable: false,
      });
    }
    void records.renew(handle.owner, entry);
    // A running process is a live connection; a server behind HTTP may have forgotten the session or have stopped.
    if (entry.transport === 'http') await registry.using(connection, () => connection.link.refresh(signal));
    return connection.link.connection;
  };

  /** Runs `work` with the place of a connection that is going to be opened, so that concurrent calls find it taken. */
  const withPlace = async <R>(handle: McpHandle, present: number, work: () => Promise<R>): Promise<R> => {
    const places = connecting.get(handle.owner) ?? new Set();
    const place = JSON.stringify([handle.sessionId ?? null, handle.name]);
    if (places.has(place)) throw taken(handle.name);
    if (present + places.size >= PER_KEY_MAX) throw tooMany();
    connecting.set(handle.owner, places.add(place));
    try {
      return await work();
    } finally {
      places.delete(place);
      if (places.size === 0) connecting.delete(handle.owner);
    }
  };

  return {
    async connect(handle, { config, allowedTools, requestId, signal: callSignal }) {
      opener.check(handle, config, requestId);
      const signal = AbortSignal.any([callSignal, closing]);
      const configuration = { config, allowedTools };
      const entries = await opener.listed(handle.owner);
      const existing = entries.find((entry) => isOf(entry, handle.sessionId) && entry.name === handle.name);
      if (existing !== undefined) return reuse(handle, existing, configuration, signal);
      return withPlace(handle, entries.length, async () => {
        const id = randomUUID();
        const sealed = await sealConfiguration(wrapper, configuration, { owner: handle.owner, id }, signal);
        const { link } = await opener.connect(handle, { id, sealed, configuration, requestId, signal });
        return link.connection;
      });
    },

    call,

    async list(owner, sessionId) {
      const entries = await listOf(owner, sessionId);
      const connections = await Promise.all(
        entries.map(async (entry) => {
          const open = registry.get(entry.id);
          return open?.link.connection ?? (await records.read(owner, entry))?.connection;
        }),
      );
      return connections.filter((connection) => connection !== undefined);
    },

    async refresh(owner, sessionId, signal) {
      const within = deadline(REFRESH_MS, signal);
      const refresh = async (entry: Connected): Promise<void> => {
        const isOpen = registry.get(entry.id) !== undefined;
        if (entry.transport === 'http') {
          const { link } = await opener.open(owner, entry, within);
          // One that has just been opened has listed its tools.
          if (isOpen) await link.refresh(within);
        } else await registry.get(entry.id)?.link.ready();
      };
      const all = listOf(owner, sessionId).then((entries) => Promise.allSettled(entries.map(refresh)));
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
