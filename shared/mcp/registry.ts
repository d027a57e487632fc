// The connections that are open on this instance, by their ids: at most so many, each with a bound of calls in flight,
// and closed when it has had none for a while. Which connections a key has is stored (records.ts).
import { RpcError } from '../errors.ts';
import type { Configuration } from './configuration.ts';
import type { Link } from './link.ts';
import { tooMany } from './records.ts';

/** Names one connection: of a key, in a session or in none. */
export interface McpHandle {
  readonly owner: string;
  readonly sessionId: string | undefined;
  readonly name: string;
}

const TOTAL_MAX = 48;
const CALLS_MAX = 16;

export interface Opened {
  readonly link: Link;
  readonly configuration: Configuration;
  /** The run of the sandbox in which its process was started; undefined for a URL. */
  readonly bootId: string | undefined;
  /** Its process was started again, and no prompt of the session has reported that. */
  isRestarted: boolean;
}

export interface OpenConnection extends Opened {
  readonly id: string;
  readonly owner: string;
}

export interface Registry {
  get(id: string): OpenConnection | undefined;
  /** Those of a key. */
  of(owner: string): readonly OpenConnection[];
  /** Calls for the same connection share the attempt. Throws `unavailable` when too many are open, and as `start`. */
  open(id: string, owner: string, start: () => Promise<Opened>): Promise<OpenConnection>;
  /** Runs `work`; the idle timer is stopped meanwhile. Throws `unavailable` for too many calls. */
  using<R>(connection: OpenConnection, work: () => Promise<R>): Promise<R>;
  /** Removes it and closes it. */
  end(id: string): Promise<void>;
  endAll(): Promise<void>;
}

interface Entry {
  readonly owner: string;
  readonly opening: Promise<OpenConnection>;
  connection: OpenConnection | undefined;
  calls: number;
  idle: NodeJS.Timeout | undefined;
}

export interface RegistryOptions {
  readonly idleMs: number;
  /** The connection has ended and was not closed here. */
  onEnded(connection: OpenConnection): void;
  /** Connections of the key were opened or closed. */
  onChanged(owner: string): void;
}

export function createRegistry({ idleMs, onEnded, onChanged }: RegistryOptions): Registry {
  const entries = new Map<string, Entry>();

  const end = async (id: string): Promise<void> => {
    const entry = entries.get(id);
    if (entry === undefined) return;
    entries.delete(id);
    clearTimeout(entry.idle);
    onChanged(entry.owner);
    const connection = await entry.opening.catch(() => undefined);
    await connection?.link.close();
  };

  const touch = (id: string, entry: Entry): void => {
    clearTimeout(entry.idle);
    entry.idle = entry.calls > 0 ? undefined : setTimeout(() => void end(id), idleMs);
    entry.idle?.unref();
  };

  const opened = (id: string, entry: Entry, connection: OpenConnection): void => {
    if (entries.get(id) !== entry) return;
    entry.connection = connection;
    touch(id, entry);
    onChanged(entry.owner);
    void connection.link.ended.then(() => {
      if (entries.get(id) !== entry) return;
      entries.delete(id);
      clearTimeout(entry.idle);
      onChanged(entry.owner);
      onEnded(connection);
    });
  };

  return {
    get: (id) => entries.get(id)?.connection,
    end,

    of: (owner) => [...entries.values()].flatMap(({ connection }) => (connection?.owner === owner ? connection : [])),

    open(id, owner, start) {
      const present = entries.get(id);
      if (present !== undefined) return present.opening;
      if (entries.size >= TOTAL_MAX) return Promise.reject(tooMany());
      const opening = start().then((made) => ({ ...made, id, owner }));
      const entry: Entry = { owner, opening, connection: undefined, calls: 0, idle: undefined };
      entries.set(id, entry);
      opening.then(
        (connection) => opened(id, entry, connection),
        () => {
          if (entries.get(id) === entry) entries.delete(id);
        },
      );
      return opening;
    },

    async using({ id }, work) {
      const entry = entries.get(id);
      // It has ended after the caller found it.
      if (entry === undefined) return work();
      if (entry.calls >= CALLS_MAX) {
        throw new RpcError('unavailable', {
          message: `at most ${CALLS_MAX} calls to an MCP server may be in flight`,
          retryAfterMs: 1_000,
        });
      }
      entry.calls++;
      touch(id, entry);
      try {
        return await work();
      } finally {
        entry.calls--;
        if (entries.get(id) === entry) touch(id, entry);
      }
    },

    async endAll() {
      await Promise.all([...entries.keys()].map(end));
    },
  };
}
