// Starts connections: new ones by a given configuration, stored ones by the configuration in the store. Stores what it
// has started; a connection that cannot be stored is closed.
import { randomUUID } from 'node:crypto';
import type { KeyWrapper } from '../auth/logins/envelope.ts';
import type { Clock } from '../clock.ts';
import type { Connector } from './protocol/connector.ts';
import { openLiveConnection } from './protocol/live-connection.ts';
import { type Configuration, openConfiguration, type SealedConfiguration } from './records/configuration.ts';
import type { Connected } from './records/documents.ts';
import type { McpHandle } from './records/find-connected.ts';
import { notFound } from './records/find-connected.ts';
import type { McpRecords } from './records/records.ts';
import type { Opened } from './registry.ts';

export interface NewConnection {
  readonly id: string;
  readonly sealed: SealedConfiguration;
  readonly configuration: Configuration;
  readonly requestId: string;
  readonly signal: AbortSignal;
}

export interface Starter {
  /** Throws the errors of client.ts and `records.add`. */
  startNew(handle: McpHandle, added: NewConnection): Promise<Opened>;
  /** Throws `not_found` if the connection was removed, otherwise the errors of client.ts. */
  startStored(owner: string, entry: Connected): Promise<Opened>;
}

export interface StarterDeps {
  readonly connector: Connector;
  readonly clock: Clock;
  readonly wrapper: KeyWrapper | undefined;
  readonly records: McpRecords;
  /** Aborts when the instance stops. */
  readonly closing: AbortSignal;
}

interface Start {
  readonly requestId: string;
  readonly signal: AbortSignal;
  readonly connectedAtMs?: number;
}

export function createStarter({ connector, clock, wrapper, records, closing }: StarterDeps): Starter {
  const start = async (handle: McpHandle, configuration: Configuration, given: Start): Promise<Opened> => {
    const { sessionId, name } = handle;
    const { requestId, signal, connectedAtMs } = given;
    const plan = connector.plan(handle, configuration.config, requestId);
    const allowed = configuration.allowedTools && new Set(configuration.allowedTools);
    const options = { name, sessionId, plan, allowed, clock, connectedAtMs, closing };
    const live = await openLiveConnection(options, signal);
    return { live, configuration, bootId: plan.bootId(), isRestarted: false };
  };

  return {
    async startNew(handle, { id, sealed, configuration, requestId, signal }) {
      const opened = await start(handle, configuration, { requestId, signal });
      const { connection } = opened.live;
      return orClose(opened, records.add(handle, { id, sealed, connection, bootId: opened.bootId }));
    },

    async startStored(owner, entry) {
      const stored = await records.read(owner, entry);
      const name = { owner, id: entry.id };
      const configuration = stored && (await openConfiguration(wrapper, stored.sealed, name, closing));
      if (stored === undefined || configuration === undefined) {
        // The encryption key does not exist any more, or another instance is removing the connection.
        await records.remove(owner, ({ id }) => id === entry.id);
        throw notFound();
      }
      const handle = { owner, sessionId: entry.session_id ?? undefined, name: entry.name };
      const { connectedAtMs } = stored.connection;
      const given = { requestId: `req_${randomUUID()}`, signal: closing, connectedAtMs };
      const opened = await start(handle, configuration, given);
      if (opened.bootId === undefined) return opened;
      opened.isRestarted = true;
      return orClose(opened, records.started(owner, entry.id, opened.bootId));
    },
  };
}

/** Returns the opened connection when `stored` has resolved; closes it if that fails. */
async function orClose(opened: Opened, stored: Promise<unknown>): Promise<Opened> {
  try {
    await stored;
    return opened;
  } catch (error) {
    await opened.live.close();
    throw error;
  }
}
