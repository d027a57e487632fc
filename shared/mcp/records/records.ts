// Stores the MCP connections of keys, so that any instance can serve them. Bounds their number per key in a
// transaction. Only the owner finds a connection. Configurations are encrypted.
import type { Clock } from '../../clock.ts';
import { RpcError } from '../../errors.ts';
import type { Store } from '../../store/store.ts';
import { fitOffer } from '../tools/fit-offer.ts';
import type { McpConnection } from '../tools/mcp-connection.ts';
import type { Offer } from '../tools/offer.ts';
import type { SealedConfiguration } from './configuration.ts';
import { createConnectionList } from './connection-list.ts';
import { type Connected, type McpConnectionDocument, McpConnections } from './documents.ts';
import type { McpHandle } from './find-connected.ts';
import { notFound } from './find-connected.ts';

export const PER_KEY_MAX = 8;
const STORE_TIMEOUT_MS = 5_000;
const STORED_MS = 7 * 86_400_000;
const RENEW_STORED_MS = 6 * 86_400_000;
const OFFER_BYTES_MAX = 640 << 10;

export interface StoredConnection {
  /** The connection as it was when it was connected. */
  readonly connection: McpConnection;
  readonly sealed: SealedConfiguration;
}

export interface McpRecords {
  /** The connections of a key that have not expired. */
  list(owner: string): Promise<readonly Connected[]>;
  /** Throws `unavailable` when the key has too many, `conflict` when another instance has connected the name. */
  add(handle: McpHandle, added: AddedConnection): Promise<void>;
  read(owner: string, entry: Connected): Promise<StoredConnection | undefined>;
  /** Removes the connections that match and returns them. */
  remove(owner: string, matches: (entry: Connected) => boolean): Promise<readonly Connected[]>;
  /**
   * Records that a process was started for the connection, in this run of the sandbox. Throws `not_found` if the
   * connection was removed.
   */
  started(owner: string, id: string, bootId: string): Promise<void>;
  /**
   * Records that the process of the connection ended by itself. The second time in one run of the sandbox, the
   * connection is removed.
   */
  ended(owner: string, id: string, bootId: string): Promise<void>;
  /** Extends the expiry of a connection that is used; writes only when it expires soon. Never rejects. */
  renew(owner: string, entry: Connected): Promise<void>;
}

export interface AddedConnection {
  readonly id: string;
  readonly sealed: SealedConfiguration;
  readonly connection: McpConnection;
  /** Undefined for a URL. */
  readonly bootId: string | undefined;
}

export interface McpRecordsDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly idleMs: number;
}

export function createMcpRecords({ store, clock, idleMs }: McpRecordsDeps): McpRecords {
  const options = { timeoutMs: STORE_TIMEOUT_MS };
  const list = createConnectionList(store, clock, STORE_TIMEOUT_MS);
  /** A quarter more than documented, so that not every call has to renew it. */
  const expiry = (): number => clock.now() + idleMs + idleMs / 4;

  /** Writes the document of the connection again with a new expiry. */
  const extendStored = async (id: string): Promise<number> => {
    const [snapshot] = await store.get([McpConnections.ref(id)], options);
    const document = McpConnections.read(snapshot);
    const untilMs = clock.now() + STORED_MS;
    if (document === undefined || !snapshot?.version) return untilMs;
    const write = { expireAtMs: untilMs, if: { version: snapshot.version } };
    await store.commit([McpConnections.write(snapshot.ref, document, write)], options);
    return untilMs;
  };

  return {
    list: list.read,

    async add({ owner, sessionId, name }, { id, sealed, connection, bootId }) {
      const { transport, server, protocolVersion, connectedAtMs } = connection;
      const storedUntilMs = clock.now() + STORED_MS;
      const offer = fitOffer({ tools: connection.tools, omitted: connection.omitted }, OFFER_BYTES_MAX);
      const document: McpConnectionDocument = {
        ...{ owner, server, protocol_version: protocolVersion, connected_at_ms: connectedAtMs },
        ...{ offer: JSON.stringify(offer), ...sealed },
      };
      const entry: Connected = {
        ...{ id, name, session_id: sessionId ?? null, transport, expires_at_ms: expiry() },
        ...{ stored_until_ms: storedUntilMs, boot_id: bootId ?? null },
      };
      const write = McpConnections.write(McpConnections.ref(id), document, { expireAtMs: storedUntilMs });
      await list.change(
        owner,
        (alive) => {
          if (alive.some((other) => other.name === name && other.session_id === entry.session_id)) throw taken(name);
          if (alive.length >= PER_KEY_MAX) throw tooMany();
          return [...alive, entry];
        },
        [write],
      );
    },

    async read(owner, entry) {
      const [snapshot] = await store.get([McpConnections.ref(entry.id)], options);
      const document = McpConnections.read(snapshot);
      if (document === undefined || document.owner !== owner) return undefined;
      return { connection: toConnection(entry, document), sealed: document };
    },

    async remove(owner, matches) {
      const before = await list.change(owner, (alive) => {
        const kept = alive.filter((entry) => !matches(entry));
        return kept.length === alive.length ? alive : kept;
      });
      return before.filter(matches);
    },

    async started(owner, id, bootId) {
      const alive = await list.update(owner, id, { boot_id: bootId, expires_at_ms: expiry() });
      if (!alive.some((entry) => entry.id === id)) throw notFound();
    },

    async ended(owner, id, bootId) {
      await list.change(owner, (alive) => {
        const ended = alive.find((entry) => entry.id === id);
        if (ended === undefined) return alive;
        if (ended.ended_boot_id === bootId) return alive.filter((entry) => entry !== ended);
        return alive.map((entry) => (entry === ended ? { ...entry, ended_boot_id: bootId } : entry));
      });
    },

    async renew(owner, { id, expires_at_ms, stored_until_ms }) {
      if (expires_at_ms - clock.now() >= idleMs) return;
      try {
        const isOld = stored_until_ms - clock.now() < RENEW_STORED_MS;
        const stored = isOld ? { stored_until_ms: await extendStored(id) } : {};
        await list.update(owner, id, { expires_at_ms: expiry(), ...stored });
      } catch {
        // The next call renews it.
      }
    },
  };
}

function toConnection({ name, session_id, transport }: Connected, document: McpConnectionDocument): McpConnection {
  const { server, protocol_version: protocolVersion, connected_at_ms: connectedAtMs } = document;
  // `add` wrote it from a checked offer.
  const offer: Offer = JSON.parse(document.offer);
  return { name, sessionId: session_id ?? undefined, transport, server, protocolVersion, connectedAtMs, ...offer };
}

export function tooMany(): RpcError {
  return new RpcError('unavailable', {
    message: `Too many MCP servers are connected (${PER_KEY_MAX} per key)`,
    retryAfterMs: 10_000,
  });
}

export function taken(name: string): RpcError {
  return new RpcError('conflict', { message: `"${name}" has just been connected by another call`, retryable: true });
}
