// Opens stored connections on this instance: each one once, and again after its process or its run of the sandbox has
// ended.
import { settledWithin } from '../async.ts';
import type { KeyWrapper } from '../auth/logins/envelope.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import { RpcError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { Store } from '../store/store.ts';
import { createConnector } from './protocol/connector.ts';
import { orCancelled } from './protocol/live-connection.ts';
import type { ServerConfig } from './records/configuration.ts';
import type { Connected } from './records/documents.ts';
import type { McpHandle } from './records/find-connected.ts';
import type { McpRecords } from './records/records.ts';
import type { OpenConnection, Registry } from './registry.ts';
import { createStarter, type NewConnection } from './starter.ts';
import type { StdioServers } from './stdio-servers.ts';
import { createSynchronizedRegistry } from './synchronized-registry.ts';

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

export function createOpener(deps: OpenerDeps): Opener {
  const { stdioServers, log, clock, store, wrapper, servers, records, idleMs } = deps;
  const stop = new AbortController();
  const closing = stop.signal;
  const connector = createConnector({ stdioServers, log, servers });
  const starter = createStarter({ connector, clock, wrapper, records, closing });
  const { registry, listed, close } = createSynchronizedRegistry({ store, records, idleMs, closing });

  /** A newer run of the sandbox has replaced the one of its process: it is started again there between two calls. */
  const isOfOlderRun = ({ id, bootId }: OpenConnection): boolean =>
    bootId !== undefined && !stdioServers.isCurrent(bootId) && registry.isIdle(id);

  return {
    registry,
    closing,
    listed,

    check(handle, config, requestId) {
      if (closing.aborted) throw stopping();
      connector.plan(handle, config, requestId);
    },

    connect: (handle, added) => registry.open(added.id, handle.owner, () => starter.startNew(handle, added)),

    async open(owner, entry, signal) {
      const open = registry.get(entry.id);
      if (open !== undefined && !isOfOlderRun(open)) return open;
      if (open !== undefined) await registry.end(entry.id);
      if (closing.aborted) throw stopping();
      const opening = registry.open(entry.id, owner, () => starter.startStored(owner, entry));
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
      stop.abort(stopping());
      await close();
      await connector.close();
    },
  };
}

function stopping(): RpcError {
  return new RpcError('unavailable', { message: 'The gateway is stopping', retryAfterMs: 1_000 });
}
