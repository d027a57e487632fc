// The MCP servers that keys have connected: which key owns which connection, how many there may be, and when they end.
// The protocol is in client.ts; processes start in the sandbox only.

import { createHash } from 'node:crypto';
import { deadline, settledWithin } from '../async.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import { RpcError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import { createConnector, type ServerConfig } from './connect.ts';
import { type Link, type McpCall, type McpConnection, openLink } from './link.ts';
import type { McpResult } from './result.ts';
import { type McpToolset, toToolset } from './tools.ts';

export interface McpDeps {
  readonly sandbox: Sandbox;
  readonly log: Logger;
  readonly clock: Clock;
  /** Registered by the administrator, by name. */
  readonly servers: Config['mcpServers'];
  /** Default 15 minutes without a call. */
  readonly idleMs?: number;
}

/** Names one connection: of a key, in a session or in none. */
export interface McpHandle {
  readonly owner: string;
  readonly sessionId: string | undefined;
  readonly name: string;
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
const PER_KEY_MAX = 8;
const TOTAL_MAX = 48;
const CALLS_MAX = 16;
/** Time for listing the tools of all servers at once. */
const REFRESH_MS = 5_000;

interface Entry {
  readonly handle: McpHandle;
  readonly fingerprint: string;
  readonly allowed: ReadonlySet<string> | undefined;
  calls: number;
  idle: NodeJS.Timeout | undefined;
  /** Undefined while it is being connected. */
  open: Link | undefined;
}

type OpenEntry = Entry & { readonly open: Link };

export function createMcp({ sandbox, log, clock, servers, idleMs = IDLE_MS }: McpDeps): Mcp {
  const entries = new Map<string, Entry>();
  const connector = createConnector({ sandbox, log, servers });
  const closing = new AbortController();

  const remove = (entry: Entry): void => {
    clearTimeout(entry.idle);
    const id = idOf(entry.handle);
    if (entries.get(id) === entry) entries.delete(id);
  };

  const end = async (entry: Entry): Promise<void> => {
    remove(entry);
    await entry.open?.close();
  };

  const touch = (entry: Entry): void => {
    clearTimeout(entry.idle);
    entry.idle = entry.calls > 0 ? undefined : setTimeout(() => void end(entry), idleMs);
    entry.idle?.unref();
  };

  const find = (handle: McpHandle): OpenEntry => {
    const entry = entries.get(idOf(handle)) ?? findElsewhere(handle);
    if (!isOpen(entry)) throw notFound();
    return entry;
  };

  /**
   * A handle with a session falls back to the connection made without a session; a handle without one finds the key's
   * only connection of that name.
   */
  const findElsewhere = ({ owner, name, sessionId }: McpHandle): Entry | undefined => {
    if (sessionId !== undefined) return entries.get(idOf({ owner, name, sessionId: undefined }));
    const named = [...entries.values()].filter(({ handle }) => handle.owner === owner && handle.name === name);
    return named.length === 1 ? named[0] : undefined;
  };

  /** Runs `work` with the connection; the idle timer is stopped meanwhile. */
  const using = async <R>(handle: McpHandle, work: (entry: OpenEntry) => Promise<R>) => {
    const entry = find(handle);
    if (entry.calls >= CALLS_MAX) {
      throw new RpcError('unavailable', {
        message: `at most ${CALLS_MAX} calls to an MCP server may be in flight`,
        retryAfterMs: 1_000,
      });
    }
    entry.calls++;
    touch(entry);
    try {
      return await work(entry);
    } finally {
      entry.calls--;
      if (entries.get(idOf(entry.handle)) === entry) touch(entry);
    }
  };

  const call = (handle: McpHandle, request: McpCall): Promise<McpResult> =>
    using(handle, ({ open }) => open.call({ ...request, signal: AbortSignal.any([request.signal, closing.signal]) }));

  const linksOf = (owner: string, sessionId: string | undefined): Link[] =>
    [...entries.values()].flatMap(({ handle, open }) =>
      open !== undefined && handle.owner === owner && (sessionId === undefined || handle.sessionId === sessionId)
        ? [open]
        : [],
    );

  return {
    async connect(handle, { config, allowedTools, requestId, signal }) {
      if (closing.signal.aborted) throw stopping();
      const id = idOf(handle);
      const fingerprint = createHash('sha256')
        .update(JSON.stringify([config, allowedTools]))
        .digest('base64');
      const existing = entries.get(id);
      if (existing !== undefined) {
        if (existing.fingerprint === fingerprint && existing.open !== undefined) {
          const { open } = existing;
          // A running process is a live connection; a server behind HTTP may have forgotten the session or have
          // stopped.
          if (open.connection.transport === 'http') await using(handle, () => open.refresh(signal));
          return open.connection;
        }
        throw new RpcError('conflict', {
          message: `"${handle.name}" is connected with another configuration, or just being connected: mcp.disconnect first`,
          retryable: existing.open === undefined,
        });
      }
      const own = [...entries.values()].filter((entry) => entry.handle.owner === handle.owner).length;
      if (own >= PER_KEY_MAX || entries.size >= TOTAL_MAX) throw tooMany();
      const entry: Entry = {
        handle,
        fingerprint,
        allowed: allowedTools && new Set(allowedTools),
        calls: 0,
        idle: undefined,
        open: undefined,
      };
      // The place is taken before the first await, so that concurrent calls cannot all find it free.
      entries.set(id, entry);
      try {
        const both = AbortSignal.any([signal, closing.signal]);
        const plan = connector.plan(handle, config, requestId);
        const { name, sessionId } = handle;
        const { allowed } = entry;
        const link = await openLink({ name, sessionId, plan, allowed, clock, closing: closing.signal }, both);
        entry.open = link;
        void link.ended.then(() => remove(entry));
        touch(entry);
        return link.connection;
      } catch (error) {
        remove(entry);
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
      const entry = find(handle);
      await end(entry);
      return entry.handle;
    },

    async endSession({ owner, sessionId }) {
      const own = [...entries.values()].filter(
        ({ handle }) => handle.owner === owner && handle.sessionId === sessionId,
      );
      await Promise.all(own.filter(({ open }) => open !== undefined).map(end));
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
      await Promise.all([...entries.values()].map(end));
      await connector.close();
    },
  };
}

function isOpen(entry: Entry | undefined): entry is OpenEntry {
  return entry?.open !== undefined;
}

/** The owner is part of the id: another owner's handle names an absent connection, so no check can be forgotten. */
function idOf({ owner, sessionId, name }: McpHandle): string {
  return JSON.stringify([owner, sessionId ?? null, name]);
}

function notFound(): RpcError {
  return new RpcError('not_found', { message: 'Not found: no such MCP server is connected' });
}

function tooMany(): RpcError {
  return new RpcError('unavailable', {
    message: `Too many MCP servers are connected (${PER_KEY_MAX} per key)`,
    retryAfterMs: 10_000,
  });
}

function stopping(): RpcError {
  return new RpcError('unavailable', { message: 'The gateway is stopping', retryAfterMs: 1_000 });
}
