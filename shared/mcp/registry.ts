// The open connections of this instance, by id. Bounds their number and the calls in flight on each, and closes idle
// ones. The connections of a key are stored (records.ts).
import { RpcError } from '../errors.ts';
import type { LiveConnection } from './protocol/live-connection.ts';
import type { Configuration } from './records/configuration.ts';
import { tooMany } from './records/records.ts';

const TOTAL_MAX = 48;
const CALLS_MAX = 16;

export interface Opened {
  readonly live: LiveConnection;
  readonly configuration: Configuration;
  /** Id of the run of the sandbox in which the process was started; undefined for a URL. */
  readonly bootId: string | undefined;
  /** Whether the process was started again and no prompt of the session has reported that yet. */
  isRestarted: boolean;
}

export interface OpenConnection extends Opened {
  readonly id: string;
  readonly owner: string;
}

export interface Registry {
  get(id: string): OpenConnection | undefined;
  /** Whether no call to it is in flight. */
  isIdle(id: string): boolean;
  /** The open connections of a key. */
  of(owner: string): readonly OpenConnection[];
  /**
   * Opens a connection with `start`; concurrent calls for the same id share the attempt. Throws `unavailable` when too
   * many are open, and the errors of `start`.
   */
  open(id: string, owner: string, start: () => Promise<Opened>): Promise<OpenConnection>;
  /** Runs `work` as a call in flight, which stops the idle timer. Throws `unavailable` for too many calls. */
  using<R>(connection: OpenConnection, work: () => Promise<R>): Promise<R>;
  /** Removes and closes a connection. */
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
  /** Called when a connection has ended that this instance did not close. */
  onEnded(connection: OpenConnection): void;
  /** Called when connections of the key were opened or closed. */
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
    await connection?.live.close();
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
    void connection.live.ended.then(() => {
      if (entries.get(id) !== entry) return;
      entries.delete(id);
      clearTimeout(entry.idle);
      onChanged(entry.owner);
      onEnded(connection);
    });
  };

  return {
    get: (id) => entries.get(id)?.connection,
    isIdle: (id) => entries.get(id)?.calls === 0,
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
      // The connection has ended after the caller found it; `work` fails with the right error.
      if (entry === undefined) return work();
      if (entry.calls >= CALLS_MAX) {
        throw new RpcError('unavailable', {
          message: `At most ${CALLS_MAX} calls to an MCP server may be in flight`,
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
