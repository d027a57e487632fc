// The terminals of all keys on this instance: their owners, how many there may be, and when an unused one ends. They
// run in this process and end with it.
import { RpcError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { type Sandbox, sandboxUnavailable } from '../sandbox/sandbox.ts';
import { createLifetime, type Lifetime } from './lifetime.ts';
import { openTerminal, type TerminalRequest } from './open.ts';
import type { Size } from './pty.ts';
import type { Terminal } from './terminal.ts';

/** Identifies one terminal: a session id of a key. */
export interface TerminalHandle {
  readonly owner: string;
  readonly sessionId: string;
}

export interface TerminalsOptions {
  /** After the last watcher has left; default 60 s. Input and resizing restart the time. */
  readonly leftMs?: number;
  /** Without input or output; default 15 min. */
  readonly idleMs?: number;
  readonly perKeyMax?: number;
  readonly totalMax?: number;
}

/**
 * Every method that takes a handle throws the same RpcError `not_found` for a terminal that is missing, has ended or
 * belongs to another key, and `sandbox_unavailable` where no terminal can run.
 */
export interface Terminals {
  /**
   * Returns the running terminal of this handle, resized as requested, else a new one. Throws `sandbox_unavailable`,
   * `unavailable` when there are too many, `invalid_params` for a cwd that does not exist.
   */
  start(
    handle: TerminalHandle,
    request: Omit<TerminalRequest, 'cols' | 'rows'> & Partial<Size>,
  ): Promise<{ readonly terminal: Terminal; readonly resumed: boolean }>;
  input(handle: TerminalHandle, data: string): Promise<Terminal>;
  resize(handle: TerminalHandle, size: Size): Promise<Terminal>;
  /** Resolves when all of its processes have ended. */
  close(handle: TerminalHandle): Promise<{ readonly exitCode: number }>;
  /** Ends the terminal of a session, if there is one. */
  endSession(handle: TerminalHandle): Promise<void>;
  /** Ends all terminals and refuses new ones. */
  drain(): Promise<void>;
}

const SIZE: Size = { cols: 80, rows: 24 };

interface Entry {
  readonly handle: TerminalHandle;
  readonly terminal: Terminal;
  readonly lifetime: Lifetime;
}

export function createTerminals(
  deps: { readonly sandbox: Sandbox; readonly log: Logger },
  options: TerminalsOptions = {},
): Terminals {
  const { leftMs = 60_000, idleMs = 15 * 60_000, perKeyMax = 8, totalMax = 32 } = options;
  const entries = new Map<string, Promise<Entry>>();
  const running = new Map<string, Entry>();
  /** Includes those that are ending. */
  const alive = new Set<Entry>();
  let isDraining = false;

  /** Synchronous for a running terminal; calls that arrive while it is starting wait for it, in order. */
  const find = (handle: TerminalHandle): Entry | Promise<Entry> => {
    const id = idOf(handle);
    return running.get(id) ?? entries.get(id) ?? missing();
  };

  const missing = async (): Promise<never> => {
    const state = await deps.sandbox.available();
    if (!state.ok) throw sandboxUnavailable(state);
    throw new RpcError('not_found', { message: 'Not found: no such terminal is running' });
  };

  /** Frees the name at once: a caller that starts the session again gets a new terminal, not the end of the old one. */
  const end = (entry: Entry): void => {
    const id = idOf(entry.handle);
    if (running.get(id) === entry) {
      running.delete(id);
      entries.delete(id);
    }
    entry.lifetime.stop();
    entry.terminal.kill();
  };

  async function create(handle: TerminalHandle, request: TerminalRequest): Promise<Entry> {
    const terminal = await openTerminal(deps, handle.owner, request, () => lifetime.visit());
    const lifetime = createLifetime(terminal, { leftMs, idleMs, end: () => end(entry) });
    const entry: Entry = { handle, terminal, lifetime };
    running.set(idOf(handle), entry);
    alive.add(entry);
    void terminal.exited.then(() => {
      alive.delete(entry);
      end(entry);
    });
    if (isDraining) end(entry);
    return entry;
  }

  return {
    async start(handle, request) {
      if (isDraining) throw new RpcError('unavailable', { message: 'The gateway is stopping', retryAfterMs: 1_000 });
      const id = idOf(handle);
      const made = entries.get(id);
      if (made !== undefined) {
        const entry = await made;
        const { size } = entry.terminal;
        if (request.cols !== undefined || request.rows !== undefined)
          entry.terminal.resize({ ...size, ...sizeOf(request) });
        entry.lifetime.visit();
        return { terminal: entry.terminal, resumed: true };
      }
      const own = [...entries.keys()].filter((other) => other.startsWith(`[${JSON.stringify(handle.owner)},`)).length;
      if (own >= perKeyMax || entries.size >= totalMax) {
        throw new RpcError('unavailable', {
          message: `Too many terminals are open (${perKeyMax} per key)`,
          retryAfterMs: 10_000,
        });
      }
      // The place is taken before the first await, so that concurrent calls cannot all find it free.
      const making = create(handle, { ...request, ...SIZE, ...sizeOf(request) });
      entries.set(id, making);
      making.catch(() => entries.delete(id));
      return { terminal: (await making).terminal, resumed: false };
    },

    async input(handle, data) {
      const found = find(handle);
      const entry = found instanceof Promise ? await found : found;
      entry.terminal.write(data);
      entry.lifetime.use();
      return entry.terminal;
    },

    async resize(handle, size) {
      const found = find(handle);
      const entry = found instanceof Promise ? await found : found;
      entry.terminal.resize(size);
      entry.lifetime.use();
      return entry.terminal;
    },

    async close(handle) {
      const found = find(handle);
      const entry = found instanceof Promise ? await found : found;
      end(entry);
      return entry.terminal.exited;
    },

    async endSession(handle) {
      const entry = await entries.get(idOf(handle))?.catch(() => undefined);
      if (entry === undefined) return;
      end(entry);
      await entry.terminal.exited;
    },

    async drain() {
      isDraining = true;
      await Promise.allSettled(entries.values());
      const all = [...alive];
      for (const entry of all) end(entry);
      await Promise.all(all.map(({ terminal }) => terminal.exited));
    },
  };
}

/** The owner is part of the id: another owner's handle names an absent terminal, so no check can be forgotten. */
function idOf({ owner, sessionId }: TerminalHandle): string {
  return JSON.stringify([owner, sessionId]);
}

function sizeOf({ cols, rows }: Partial<Size>): Partial<Size> {
  return { ...(cols !== undefined && { cols }), ...(rows !== undefined && { rows }) };
}
