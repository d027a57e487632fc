// Opens stored connections on this instance, and synchronizes open with stored connections: a connection that any
// instance has removed is closed; the end of a process is stored, so that it is started again only once.
import { randomUUID } from 'node:crypto';
import { settledWithin } from '../async.ts';
import type { KeyWrapper } from '../auth/logins/envelope.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import { RpcError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { Store } from '../store/store.ts';
import { type Configuration, openConfiguration, type SealedConfiguration } from './configuration.ts';
import { createConnector, type ServerConfig } from './connector.ts';
import type { Connected } from './documents.ts';
import { notFound } from './find-connected.ts';
import { openLiveConnection, orCancelled } from './live-connection.ts';
import { createOwnerWatches } from './owner-watches.ts';
import type { McpRecords } from './records.ts';
import { createRegistry, type McpHandle, type OpenConnection, type Opened, type Registry } from './registry.ts';
import type { StdioServers } from './stdio-servers.ts';

export interface Opener {
  readonly registry: Registry;
  /** Aborts when the instance stops. */
  readonly closing: AbortSignal;
  /**
   * Throws RpcError `invalid_params` for a configuration that is not allowed, `unavailable` when the instance stops.
   */
  check(handle: McpHandle, config: ServerConfig, requestId: string): void;
  /** The connections of a key, as stored. */
  listed(owner: string): Promise<readonly Connected[]>;
  /** Connects a new server and stores the connection. Throws the errors of client.ts and `records.add`. */
  connect(handle: McpHandle, added: NewConnection): Promise<OpenConnection>;
  /**
   * Returns a stored connection; opens it if it is not open on this instance. Throws `not_found` if it was removed,
   * otherwise the errors of client.ts.
   */
  open(owner: string, entry: Connected, signal: AbortSignal): Promise<OpenConnection>;
  /** Removes stored connections and closes those that are open on this instance. */
  remove(owner: string, matches: (entry: Connected) => boolean): Promise<void>;
  close(): Promise<void>;
}

export interface NewConnection {
  readonly id: string;
  readonly sealed: SealedConfiguration;
  readonly configuration: Configuration;
  readonly requestId: string;
  readonly signal: AbortSignal;
}

export interface OpenerDeps {
  readonly stdioServers: StdioServers;
  readonly log: Logger;
  readonly clock: Clock;
  readonly store: Store;
  readonly wrapper: KeyWrapper | undefined;
  readonly servers: Config['mcpServers'];
  readonly records: McpRecords;
  readonly idleMs: number;
}

const END_MS = 5_000;

interface Start {
  readonly requestId: string;
  readonly signal: AbortSignal;
  readonly connectedAtMs?: number;
}

export function createOpener({
  stdioServers,
  log,
  clock,
  store,
  wrapper,
  servers,
  records,
  idleMs,
}: OpenerDeps): Opener {
  const connector = createConnector({ stdioServers, log, servers });
  const closing = new AbortController();
  /** Writes about ended connections that are in progress. */
  const ending = new Set<Promise<unknown>>();
  const watches = createOwnerWatches(store, (owner) => void listed(owner).catch(() => {}));
  const registry = createRegistry({
    idleMs,
    onChanged: (owner) => watches.set(owner, !closing.signal.aborted && registry.of(owner).length > 0),
    onEnded({ owner, id, bootId }) {
      if (closing.signal.aborted) return;
      const stored =
        bootId === undefined ? records.remove(owner, (entry) => entry.id === id) : records.ended(owner, id, bootId);
      const done: Promise<unknown> = stored.catch(() => {}).finally(() => ending.delete(done));
      ending.add(done);
    },
  });

  const listed = async (owner: string): Promise<readonly Connected[]> => {
    await Promise.all(ending);
    // Read before the list: a connection that is opened during the read may not be in it, and must not be closed.
    const before = registry.of(owner);
    const entries = await records.list(owner);
    const ids = new Set(entries.map(({ id }) => id));
    for (const { id } of before) if (!ids.has(id)) void registry.end(id);
    return entries;
  };

  const start = async (handle: McpHandle, configuration: Configuration, given: Start): Promise<Opened> => {
    const { sessionId, name } = handle;
    const { requestId, signal, connectedAtMs } = given;
    const plan = connector.plan(handle, configuration.config, requestId);
    const allowed = configuration.allowedTools && new Set(configuration.allowedTools);
    const options = { name, sessionId, plan, allowed, clock, connectedAtMs, closing: closing.signal };
    const live = await openLiveConnection(options, signal);
    return { live, configuration, bootId: plan.bootId(), isRestarted: false };
  };

  /** Returns the opened connection when `stored` has resolved; closes it if that fails. */
  const orClose = async (opened: Opened, stored: Promise<unknown>): Promise<Opened> => {
    try {
      await stored;
      return opened;
    } catch (error) {
      await opened.live.close();
      throw error;
    }
  };

  const reopen = async (owner: string, entry: Connected): Promise<Opened> => {
    const { signal } = closing;
    const stored = await records.read(owner, entry);
    const name = { owner, id: entry.id };
    const configuration = stored && (await openConfiguration(wrapper, stored.sealed, name, signal));
    if (stored === undefined || configuration === undefined) {
      // The encryption key does not exist any more, or another instance is removing the connection.
      await records.remove(owner, ({ id }) => id === entry.id);
      throw notFound();
    }
    const handle = { owner, sessionId: entry.session_id ?? undefined, name: entry.name };
    const { connectedAtMs } = stored.connection;
    const opened = await start(handle, configuration, { requestId: `req_${randomUUID()}`, signal, connectedAtMs });
    if (opened.bootId === undefined) return opened;
    opened.isRestarted = true;
    return orClose(opened, records.started(owner, entry.id, opened.bootId));
  };

  /** A newer run of the sandbox has replaced the one of its process: it is started again there between two calls. */
  const isOfOlderRun = ({ id, bootId }: OpenConnection): boolean =>
    bootId !== undefined && !stdioServers.isCurrent(bootId) && registry.isIdle(id);

  return {
    registry,
    closing: closing.signal,
    listed,

    check(handle, config, requestId) {
      if (closing.signal.aborted) throw stopping();
      connector.plan(handle, config, requestId);
    },

    connect(handle, { id, sealed, configuration, requestId, signal }) {
      return registry.open(id, handle.owner, async () => {
        const opened = await start(handle, configuration, { requestId, signal });
        const { connection } = opened.live;
        return orClose(opened, records.add(handle, { id, sealed, connection, bootId: opened.bootId }));
      });
    },

    async open(owner, entry, signal) {
      const open = registry.get(entry.id);
      if (open !== undefined && !isOfOlderRun(open)) return open;
      if (open !== undefined) await registry.end(entry.id);
      if (closing.signal.aborted) throw stopping();
      const opening = registry.open(entry.id, owner, () => reopen(owner, entry));
      // The opening continues when the caller leaves: other calls may wait for it, and the next call finds the
      // connection open.
      opening.catch(() => {});
      return orCancelled(opening, signal);
    },

    async remove(owner, matches) {
      const removed = await records.remove(owner, matches);
      const ended = Promise.all(removed.map(({ id }) => registry.end(id)));
      // A process in a sandbox that cannot be reached ends there with the connection to it.
      await settledWithin(END_MS, ended);
    },

    async close() {
      closing.abort(stopping());
      watches.close();
      await registry.endAll();
      await Promise.all(ending);
      await connector.close();
    },
  };
}

function stopping(): RpcError {
  return new RpcError('unavailable', { message: 'The gateway is stopping', retryAfterMs: 1_000 });
}
