// Connects a server for a caller: returns the existing connection if its configuration is the same, or opens a new one.
import { randomUUID } from 'node:crypto';
import type { KeyWrapper } from '../auth/logins/envelope.ts';
import { RpcError } from '../errors.ts';
import type { Opener } from './opener.ts';
import type { ServerConfig } from './records/configuration.ts';
import { type Configuration, isEqual, sealConfiguration } from './records/configuration.ts';
import type { Connected } from './records/documents.ts';
import type { McpHandle } from './records/find-connected.ts';
import { isOf } from './records/find-connected.ts';
import { type McpRecords, PER_KEY_MAX, taken, tooMany } from './records/records.ts';
import type { McpConnection } from './tools/mcp-connection.ts';

export interface ConnectRequest {
  readonly config: ServerConfig;
  readonly allowedTools: readonly string[] | undefined;
  readonly requestId: string;
  readonly signal: AbortSignal;
}

export interface ConnectDeps {
  readonly opener: Opener;
  readonly records: McpRecords;
  readonly wrapper: KeyWrapper | undefined;
}

type Connect = (handle: McpHandle, request: ConnectRequest) => Promise<McpConnection>;

/** The function `connect` of the Mcp port. */
export function createConnect({ opener, records, wrapper }: ConnectDeps): Connect {
  const { registry, closing } = opener;
  const reservations = createReservations();

  /** Returns the existing connection if it has the same configuration. */
  const reuse = async (
    handle: McpHandle,
    entry: Connected,
    configuration: Configuration,
    signal: AbortSignal,
  ): Promise<McpConnection> => {
    const connection = await opener.open(handle.owner, entry, signal);
    if (!isEqual(connection.configuration, configuration)) {
      throw new RpcError('conflict', {
        message: `"${handle.name}" is connected with another configuration: mcp.disconnect first`,
        retryable: false,
      });
    }
    void records.renew(handle.owner, entry);
    // A running process proves that the connection works. A server behind HTTP may have ended the session or have
    // stopped.
    if (entry.transport === 'http') await registry.using(connection, () => connection.live.refresh(signal));
    return connection.live.connection;
  };

  return async (handle, { config, allowedTools, requestId, signal: callSignal }) => {
    opener.check(handle, config, requestId);
    const signal = AbortSignal.any([callSignal, closing]);
    const configuration = { config, allowedTools };
    const entries = await opener.listed(handle.owner);
    const existing = entries.find((entry) => isOf(entry, handle.sessionId) && entry.name === handle.name);
    if (existing !== undefined) return reuse(handle, existing, configuration, signal);
    return reservations.reserve(handle, entries.length, async () => {
      const id = randomUUID();
      const sealed = await sealConfiguration(wrapper, configuration, { owner: handle.owner, id }, signal);
      const { live } = await opener.connect(handle, { id, sealed, configuration, requestId, signal });
      return live.connection;
    });
  };
}

/** The handles that this instance is connecting, by key. */
function createReservations(): {
  /**
   * Runs `work` while the handle is reserved, so that concurrent calls count it and cannot connect the same handle.
   * `present`: the number of the key's connections.
   */
  reserve<R>(handle: McpHandle, present: number, work: () => Promise<R>): Promise<R>;
} {
  const connecting = new Map<string, Set<string>>();
  return {
    async reserve({ owner, sessionId, name }, present, work) {
      const reserved = connecting.get(owner) ?? new Set();
      const id = JSON.stringify([sessionId ?? null, name]);
      if (reserved.has(id)) throw taken(name);
      if (present + reserved.size >= PER_KEY_MAX) throw tooMany();
      connecting.set(owner, reserved.add(id));
      try {
        return await work();
      } finally {
        reserved.delete(id);
        if (reserved.size === 0) connecting.delete(owner);
      }
    },
  };
}
