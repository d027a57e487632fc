// The terminals of this process by owner and session: those that are starting, running and ending. Bounds their number.
import { RpcError } from '../errors.ts';
import { createEndedTerminals } from './ended-terminals.ts';
import type { Lifetime } from './lifetime.ts';
import type { Terminal } from './terminal.ts';
import type { TerminalHandle } from './terminals.ts';

export interface Entry {
  readonly handle: TerminalHandle;
  readonly terminal: Terminal;
  readonly lifetime: Lifetime;
}

/** All terminals of an owner, or the one of a session. */
export interface TerminalsOf {
  readonly owner: string;
  readonly sessionId?: string | undefined;
}

export interface TerminalTable {
  /** Returns a running terminal, or the promise of one that is starting. */
  find(handle: TerminalHandle): Entry | Promise<Entry> | undefined;
  /** Returns an ended terminal that a late watcher may read, if no other one of the session has started. */
  findEnded(handle: TerminalHandle): Terminal | undefined;
  /**
   * Calls `open`, which adds the terminal when it runs. Concurrent calls count it from now on. Throws RpcError
   * `unavailable` when there are too many.
   */
  start(handle: TerminalHandle, open: () => Promise<Entry>): Promise<Entry>;
  /** The terminal runs: it replaces the ended one of its session. */
  add(entry: Entry): void;
  /**
   * Ends a terminal. Its session is free before the processes have ended: a caller that starts the session again gets a
   * new terminal, not the one that is ending.
   */
  end(entry: Entry): void;
  /** Ends the terminals that were started before `beforeMs`, waits for their end, and drops their output. */
  erase(of: TerminalsOf, beforeMs: number): Promise<void>;
  /** Ends all terminals and waits for their end. */
  endAll(): Promise<void>;
}

export interface TerminalTableOptions {
  /** How long an ended terminal can be watched. */
  readonly keptMs: number;
  readonly perKeyMax: number;
  readonly totalMax: number;
}

export function createTerminalTable({ keptMs, perKeyMax, totalMax }: TerminalTableOptions): TerminalTable {
  /** Those that are starting or running. */
  const started = new Map<string, Promise<Entry>>();
  const running = new Map<string, Entry>();
  /** All running terminals, those that are ending included. */
  const alive = new Set<Entry>();
  const ended = createEndedTerminals({ keptMs, perKeyMax, totalMax });

  const end = (entry: Entry): void => {
    const id = idOf(entry.handle);
    if (running.get(id) === entry) {
      running.delete(id);
      started.delete(id);
      ended.keep(id, entry.handle.owner, entry.terminal);
    }
    entry.lifetime.stop();
    entry.terminal.kill();
  };

  return {
    find: (handle) => running.get(idOf(handle)) ?? started.get(idOf(handle)),
    findEnded: (handle) => (started.has(idOf(handle)) ? undefined : ended.get(idOf(handle))),

    start(handle, open) {
      const own = [...started.keys()].filter((id) => isIdOf(handle.owner, id)).length;
      if (own >= perKeyMax || started.size >= totalMax) throw tooMany(perKeyMax);
      const opened = open();
      started.set(idOf(handle), opened);
      opened.catch(() => started.delete(idOf(handle)));
      return opened;
    },

    add(entry) {
      const id = idOf(entry.handle);
      running.set(id, entry);
      ended.drop(id);
      alive.add(entry);
      void entry.terminal.exited.then(() => {
        alive.delete(entry);
        end(entry);
      });
    },

    end,

    async erase({ owner, sessionId }, beforeMs) {
      const isMeant = (id: string): boolean =>
        sessionId === undefined ? isIdOf(owner, id) : id === idOf({ owner, sessionId });
      const isOld = ({ startedMs }: Terminal): boolean => startedMs <= beforeMs;
      const found = await Promise.all(
        [...started].flatMap(([id, entry]) => (isMeant(id) ? entry.catch(() => undefined) : [])),
      );
      const erased = found.filter((entry) => entry !== undefined).filter(({ terminal }) => isOld(terminal));
      for (const entry of erased) end(entry);
      ended.dropAll((id, terminal) => isMeant(id) && isOld(terminal));
      await Promise.all(erased.map(({ terminal }) => terminal.exited));
    },

    async endAll() {
      await Promise.allSettled(started.values());
      const all = [...alive];
      for (const entry of all) end(entry);
      await Promise.all(all.map(({ terminal }) => terminal.exited));
    },
  };
}

/**
 * The owner is part of the id: another owner's handle names an absent terminal, so no caller has to check the owner.
 */
function idOf({ owner, sessionId }: TerminalHandle): string {
  return JSON.stringify([owner, sessionId]);
}

/** Whether `id`, made by `idOf`, is of this owner. */
function isIdOf(owner: string, id: string): boolean {
  return id.startsWith(`[${JSON.stringify(owner)},`);
}

function tooMany(perKeyMax: number): RpcError {
  return new RpcError('unavailable', {
    message: `Too many terminals are open (${perKeyMax} per key)`,
    retryAfterMs: 10_000,
  });
}
