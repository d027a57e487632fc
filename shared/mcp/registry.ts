// The connections there are, by the handles that name them: at most so many, each with a bound of calls in flight, and
// closed when it has had none for a while.
import { RpcError } from '../errors.ts';
import type { Link } from './link.ts';

/** Names one connection: of a key, in a session or in none. */
export interface McpHandle {
  readonly owner: string;
  readonly sessionId: string | undefined;
  readonly name: string;
}

const PER_KEY_MAX = 8;
const TOTAL_MAX = 48;
const CALLS_MAX = 16;

export interface Entry {
  readonly handle: McpHandle;
  readonly fingerprint: string;
  readonly allowed: ReadonlySet<string> | undefined;
  calls: number;
  idle: NodeJS.Timeout | undefined;
  /** Undefined while it is being connected. */
  open: Link | undefined;
}

export type OpenEntry = Entry & { readonly open: Link };

export interface Registry {
  /** The entry of exactly this handle, also while it is being connected. */
  get(handle: McpHandle): Entry | undefined;
  /**
   * The open connection of a handle. A handle with a session falls back to the connection made without a session; a
   * handle without one finds the key's only connection of that name. Throws `not_found`.
   */
  find(handle: McpHandle): OpenEntry;
  /** All entries of a key; of one session when `sessionId` is given. */
  of(owner: string, sessionId: string | undefined): Entry[];
  /** Takes the place of a connection that is going to be opened. Throws `unavailable` when there are too many. */
  reserve(of: Pick<Entry, 'handle' | 'fingerprint' | 'allowed'>): Entry;
  /** Connected: the entry can be found from now on, until the connection ends. */
  opened(entry: Entry, link: Link): void;
  /** Runs `work` with the connection; the idle timer is stopped meanwhile. Throws `unavailable` for too many calls. */
  using<R>(handle: McpHandle, work: (entry: OpenEntry) => Promise<R>): Promise<R>;
  remove(entry: Entry): void;
  /** Removes it and closes its connection. */
  end(entry: Entry): Promise<void>;
  endAll(): Promise<void>;
}

export function createRegistry(idleMs: number): Registry {
  const entries = new Map<string, Entry>();

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

  const findElsewhere = ({ owner, name, sessionId }: McpHandle): Entry | undefined => {
    if (sessionId !== undefined) return entries.get(idOf({ owner, name, sessionId: undefined }));
    const named = [...entries.values()].filter(({ handle }) => handle.owner === owner && handle.name === name);
    return named.length === 1 ? named[0] : undefined;
  };

  const using = async <R>(handle: McpHandle, work: (entry: OpenEntry) => Promise<R>): Promise<R> => {
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

  return {
    get: (handle) => entries.get(idOf(handle)),
    find,
    using,
    remove,
    end,

    of: (owner, sessionId) =>
      [...entries.values()].filter(
        ({ handle }) => handle.owner === owner && (sessionId === undefined || handle.sessionId === sessionId),
      ),

    reserve(of) {
      const own = [...entries.values()].filter((entry) => entry.handle.owner === of.handle.owner).length;
      if (own >= PER_KEY_MAX || entries.size >= TOTAL_MAX) throw tooMany();
      const entry: Entry = { ...of, calls: 0, idle: undefined, open: undefined };
      entries.set(idOf(of.handle), entry);
      return entry;
    },

    opened(entry, link) {
      entry.open = link;
      void link.ended.then(() => remove(entry));
      touch(entry);
    },

    async endAll() {
      await Promise.all([...entries.values()].map(end));
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
