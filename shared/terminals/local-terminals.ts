// The Terminals port in this process: starts terminals, passes calls to the one that the handle names, and ends unused
// ones.
import { RpcError } from '../errors.ts';
import { sandboxUnavailable } from '../sandbox/commands.ts';
import { createLifetime } from './lifetime.ts';
import { type OpenDeps, openTerminal } from './open.ts';
import { createTerminalTable, type Entry, type TerminalsOf } from './terminal-table.ts';
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

export interface LocalTerminals extends Terminals {
  /**
   * Ends the terminals of a session, or of all sessions of an owner, that were started before `beforeMs` (of
   * `performance.now()`), and drops their output.
   */
  erase(of: TerminalsOf, beforeMs: number): Promise<void>;
}

export function createLocalTerminals(deps: OpenDeps, options: TerminalsOptions = {}): LocalTerminals {
  const { unwatchedMs, idleMs, perKeyMax = 8, totalMax = 32 } = { ...TERMINAL_TIMES, ...options };
  const table = createTerminalTable({ keptMs: unwatchedMs, perKeyMax, totalMax });
  let isDraining = false;

  const throwNotFound = async (): Promise<never> => {
    const state = await deps.sandbox.available();
    if (!state.ok) throw sandboxUnavailable(state);
    throw new RpcError('not_found', { message: 'Not found: no such terminal is running' });
  };

  /**
   * Calls `work` synchronously for a running terminal, so that its input stays in order. Calls that arrive while the
   * terminal is starting wait for it, in order.
   */
  const onTerminal = async <R>(handle: TerminalHandle, work: (entry: Entry) => R): Promise<Awaited<R>> => {
    const found = table.find(handle) ?? throwNotFound();
    return await work(found instanceof Promise ? await found : found);
  };

  const open = async (handle: TerminalHandle, request: TerminalRequest & Size): Promise<Entry> => {
    const terminal = await openTerminal(deps, handle, request, (_count, leftAgoMs) =>
      lifetime.watchersChanged(leftAgoMs),
    );
    const lifetime = createLifetime(terminal, { unwatchedMs, idleMs, end: () => table.end(entry) });
    const entry: Entry = { handle, terminal, lifetime };
    table.add(entry);
    if (isDraining) table.end(entry);
    return entry;
  };

  return {
    async start(handle, request) {
      if (isDraining) throw new RpcError('unavailable', { message: 'The gateway is stopping', retryAfterMs: 1_000 });
      const existing = table.find(handle);
      if (existing !== undefined) return resume(await existing, request);
      if (request.onlyRunning) return throwNotFound();
      const entry = await table.start(handle, () => open(handle, { ...request, ...SIZE, ...sizeOf(request) }));
      return { ...factsOf(entry), resumed: false };
    },

    input: (handle, data) =>
      onTerminal(handle, (entry) => {
        entry.terminal.write(data);
        entry.lifetime.restartUnwatchedTimer();
        return factsOf(entry);
      }),

    resize: (handle, size) =>
      onTerminal(handle, (entry) => {
        entry.terminal.resize(size);
        entry.lifetime.restartUnwatchedTimer();
        return factsOf(entry);
      }),

    async watch(handle, watcher, afterSeq) {
      const ended = table.findEnded(handle);
      if (ended !== undefined) return ended.watch(watcher, afterSeq);
      return onTerminal(handle, ({ terminal }) => terminal.watch(watcher, afterSeq));
    },

    close: (handle) =>
      onTerminal(handle, (entry) => {
        table.end(entry);
        return entry.terminal.exited;
      }),

    erase: table.erase,

    async drain() {
      isDraining = true;
      await table.endAll();
    },
  };
}

/** A caller that starts a running terminal gets it in the size that it requests. */
function resume(entry: Entry, request: TerminalRequest): TerminalFacts & { readonly resumed: boolean } {
  const { terminal, lifetime } = entry;
  const size = sizeOf(request);
  if (Object.keys(size).length > 0) terminal.resize({ ...terminal.size, ...size });
  lifetime.watchersChanged();
  return { ...factsOf(entry), resumed: true };
}

function factsOf({ terminal }: Entry): TerminalFacts {
  return { ...terminal.size, seq: terminal.lastSeq };
}

function sizeOf({ cols, rows }: Partial<Size>): Partial<Size> {
  return { ...(cols !== undefined && { cols }), ...(rows !== undefined && { rows }) };
}
