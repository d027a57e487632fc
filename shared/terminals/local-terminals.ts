// The Terminals port in this process. Finds terminals by owner and session, bounds their number, and ends unused ones.
import { RpcError } from '../errors.ts';
import { sandboxUnavailable } from '../sandbox/commands.ts';
import { createEndedTerminals } from './ended-terminals.ts';
import { createLifetime, type Lifetime } from './lifetime.ts';
import { type OpenDeps, openTerminal } from './open.ts';
import type { Terminal } from './terminal.ts';
import type { Size, TerminalFacts, TerminalHandle, TerminalRequest, Terminals } from './terminals.ts';

export interface TerminalsOptions {
  /** How long a terminal runs after its last watcher has left. Input and resizing restart the time. Default 60 s. */
  readonly unwatchedMs?: number;
  /** How long a terminal runs without input or output. Default 15 min. */
  readonly idleMs?: number;
  readonly perKeyMax?: number;
  readonly totalMax?: number;
}

/** The defaults of TerminalsOptions. */
export const TERMINAL_TIMES = { unwatchedMs: 60_000, idleMs: 15 * 60_000 };
const SIZE: Size = { cols: 80, rows: 24 };

interface Entry {
  readonly handle: TerminalHandle;
  readonly terminal: Terminal;
  readonly lifetime: Lifetime;
}

export interface LocalTerminals extends Terminals {
  /**
   * Ends the terminals of a session, or of all sessions of an owner, that were started before `beforeMs` (of
   * `performance.now()`), and drops their output.
   */
  erase(of: { readonly owner: string; readonly sessionId?: string | undefined }, beforeMs: number): Promise<void>;
}

export function createLocalTerminals(deps: OpenDeps, options: TerminalsOptions = {}): LocalTerminals {
  const { unwatchedMs, idleMs, perKeyMax = 8, totalMax = 32 } = { ...TERMINAL_TIMES, ...options };
  const entries = new Map<string, Promise<Entry>>();
  const running = new Map<string, Entry>();
  /** All running terminals, those that are ending included. */
  const alive = new Set<Entry>();
  const ended = createEndedTerminals({ keptMs: unwatchedMs, perKeyMax, totalMax });
  let isDraining = false;

  /**
   * Returns a running terminal synchronously, so that its input stays in order. Calls that arrive while it is starting
   * wait for it, in order.
   */
  const find = (handle: TerminalHandle): Entry | Promise<Entry> => {
    const id = idOf(handle);
    return running.get(id) ?? entries.get(id) ?? throwNotFound();
  };

  const throwNotFound = async (): Promise<never> => {
    const state = await deps.sandbox.available();
    if (!state.ok) throw sandboxUnavailable(state);
    throw new RpcError('not_found', { message: 'Not found: no such terminal is running' });
  };

  /**
   * Frees the id before the processes have ended: a caller that starts the session again gets a new terminal, not the
   * one that is ending.
   */
  const end = (entry: Entry): void => {
    const id = idOf(entry.handle);
    if (running.get(id) === entry) {
      running.delete(id);
      entries.delete(id);
      ended.keep(id, entry.handle.owner, entry.terminal);
    }
    entry.lifetime.stop();
    entry.terminal.kill();
  };

  async function create(handle: TerminalHandle, request: TerminalRequest & Size): Promise<Entry> {
    const terminal = await openTerminal(deps, handle, request, (_count, leftAgoMs) =>
      lifetime.watchersChanged(leftAgoMs),
    );
    const lifetime = createLifetime(terminal, { unwatchedMs, idleMs, end: () => end(entry) });
    const entry: Entry = { handle, terminal, lifetime };
    running.set(idOf(handle), entry);
    ended.drop(idOf(handle));
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
      const existing = entries.get(id);
      if (existing !== undefined) {
        const entry = await existing;
        const { size } = entry.terminal;
        if (request.cols !== undefined || request.rows !== undefined)
          entry.terminal.resize({ ...size, ...sizeOf(request) });
        entry.lifetime.watchersChanged();
        return { ...factsOf(entry), resumed: true };
      }
      if (request.onlyRunning) return throwNotFound();
      const own = [...entries.keys()].filter((other) => isOf(handle.owner, other)).length;
      if (own >= perKeyMax || entries.size >= totalMax) {
        throw new RpcError('unavailable', {
          message: `Too many terminals are open (${perKeyMax} per key)`,
          retryAfterMs: 10_000,
        });
      }
      // The entry is set before the first `await`, so that concurrent calls count it.
      const created = create(handle, { ...request, ...SIZE, ...sizeOf(request) });
      entries.set(id, created);
      created.catch(() => entries.delete(id));
      return { ...factsOf(await created), resumed: false };
    },

    async input(handle, data) {
      const found = find(handle);
      const entry = found instanceof Promise ? await found : found;
      entry.terminal.write(data);
      entry.lifetime.restartUnwatchedTimer();
      return factsOf(entry);
    },

    async resize(handle, size) {
      const found = find(handle);
      const entry = found instanceof Promise ? await found : found;
      entry.terminal.resize(size);
      entry.lifetime.restartUnwatchedTimer();
      return factsOf(entry);
    },

    async watch(handle, watcher, afterSeq) {
      const id = idOf(handle);
      const terminal = entries.has(id) ? undefined : ended.get(id);
      if (terminal !== undefined) return terminal.watch(watcher, afterSeq);
      const found = find(handle);
      const entry = found instanceof Promise ? await found : found;
      return entry.terminal.watch(watcher, afterSeq);
    },

    async close(handle) {
      const found = find(handle);
      const entry = found instanceof Promise ? await found : found;
      end(entry);
      return entry.terminal.exited;
    },

    async erase({ owner, sessionId }, beforeMs) {
      const isMeant = (id: string): boolean =>
        sessionId === undefined ? isOf(owner, id) : id === idOf({ owner, sessionId });
      const isOld = ({ startedMs }: Terminal): boolean => startedMs <= beforeMs;
      const found = await Promise.all(
        [...entries].flatMap(([id, entry]) => (isMeant(id) ? entry.catch(() => undefined) : [])),
      );
      const erased = found.filter((entry) => entry !== undefined).filter(({ terminal }) => isOld(terminal));
      for (const entry of erased) end(entry);
      ended.dropAll((id, terminal) => isMeant(id) && isOld(terminal));
      await Promise.all(erased.map(({ terminal }) => terminal.exited));
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

/** `id` as `idOf` makes it. */
function isOf(owner: string, id: string): boolean {
  return id.startsWith(`[${JSON.stringify(owner)},`);
}

function factsOf({ terminal }: Entry): TerminalFacts {
  return { ...terminal.size, seq: terminal.lastSeq };
}

function sizeOf({ cols, rows }: Partial<Size>): Partial<Size> {
  return { ...(cols !== undefined && { cols }), ...(rows !== undefined && { rows }) };
}
