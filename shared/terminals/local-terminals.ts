// The Terminals port in this process: the owners of the terminals, how many there may be, and when an unused one ends.
import { RpcError } from '../errors.ts';
import { sandboxUnavailable } from '../sandbox/commands.ts';
import { createEndedTerminals } from './ended-terminals.ts';
import { createLifetime, type Lifetime } from './lifetime.ts';
import { type OpenDeps, openTerminal } from './open.ts';
import type { Terminal } from './terminal.ts';
import type { Size, TerminalFacts, TerminalHandle, TerminalRequest, Terminals } from './terminals.ts';

export interface TerminalsOptions {
  /** After the last watcher has left; default 60 s. Input and resizing restart the time. */
  readonly leftMs?: number;
  /** Without input or output; default 15 min. */
  readonly idleMs?: number;
  readonly perKeyMax?: number;
  readonly totalMax?: number;
}

/** The defaults of TerminalsOptions. */
export const TERMINAL_TIMES = { leftMs: 60_000, idleMs: 15 * 60_000 };
const SIZE: Size = { cols: 80, rows: 24 };

interface Entry {
  readonly handle: TerminalHandle;
  readonly terminal: Terminal;
  readonly lifetime: Lifetime;
}

export function createLocalTerminals(deps: OpenDeps, options: TerminalsOptions = {}): Terminals {
  const { leftMs, idleMs, perKeyMax = 8, totalMax = 32 } = { ...TERMINAL_TIMES, ...options };
  const entries = new Map<string, Promise<Entry>>();
  const running = new Map<string, Entry>();
  /** Includes those that are ending. */
  const alive = new Set<Entry>();
  const ended = createEndedTerminals({ keptMs: leftMs, perKeyMax, totalMax });
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
      ended.keep(id, entry.handle.owner, entry.terminal);
    }
    entry.lifetime.stop();
    entry.terminal.kill();
  };

  async function create(handle: TerminalHandle, request: TerminalRequest & Size): Promise<Entry> {
    const terminal = await openTerminal(deps, handle, request, (_count, leftAgoMs) => lifetime.visit(leftAgoMs));
    const lifetime = createLifetime(terminal, { leftMs, idleMs, end: () => end(entry) });
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
      const made = entries.get(id);
      if (made !== undefined) {
        const entry = await made;
        const { size } = entry.terminal;
        if (request.cols !== undefined || request.rows !== undefined)
          entry.terminal.resize({ ...size, ...sizeOf(request) });
        entry.lifetime.visit();
        return { ...factsOf(entry), resumed: true };
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
      return { ...factsOf(await making), resumed: false };
    },

    async input(handle, data) {
      const found = find(handle);
      const entry = found instanceof Promise ? await found : found;
      entry.terminal.write(data);
      entry.lifetime.use();
      return factsOf(entry);
    },

    async resize(handle, size) {
      const found = find(handle);
      const entry = found instanceof Promise ? await found : found;
      entry.terminal.resize(size);
      entry.lifetime.use();
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

    async endSession(handle) {
      const id = idOf(handle);
      const entry = await entries.get(id)?.catch(() => undefined);
      if (entry !== undefined) end(entry);
      // The output of a session that has ended is kept for no one.
      ended.drop(id);
      await entry?.terminal.exited;
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

function factsOf({ terminal }: Entry): TerminalFacts {
  return { ...terminal.size, seq: terminal.lastSeq };
}

function sizeOf({ cols, rows }: Partial<Size>): Partial<Size> {
  return { ...(cols !== undefined && { cols }), ...(rows !== undefined && { rows }) };
}
