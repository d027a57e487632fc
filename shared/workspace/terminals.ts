// The terminals of all keys on this instance: whose they are, how many there may be, and when one that nobody uses ends. They live in this
// process and end with it.
import { RpcError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { auditCommand } from './audit.ts';
import { openPty, type Size } from './pty.ts';
import type { Sandbox } from './sandbox.ts';
import { createTerminal, type Terminal } from './terminal.ts';

/** Names one terminal: a session id of a key. */
export interface TerminalHandle {
  readonly owner: string;
  readonly sessionId: string;
}

export interface TerminalRequest extends Size {
  readonly shell: string | undefined;
  readonly cwd: string | undefined;
  readonly env: Readonly<Record<string, string>>;
  readonly requestId: string;
}

export interface TerminalsOptions {
  /** After the last watcher has left; default 60 s. Input and resizing count as a visit. */
  readonly leftMs?: number;
  /** Without input or output; default 15 min. */
  readonly idleMs?: number;
  readonly perKeyMax?: number;
  readonly totalMax?: number;
}

/** Everything that names a terminal throws RpcError `not_found` alike for one that is missing, has ended or is another key's. */
export interface Terminals {
  /**
   * The running terminal of this handle, resized to what is asked for, else a new one. Throws `sandbox_unavailable`, `unavailable` when
   * there are too many.
   */
  start(
    handle: TerminalHandle,
    request: Omit<TerminalRequest, 'cols' | 'rows'> & Partial<Size>,
  ): Promise<{ readonly terminal: Terminal; readonly resumed: boolean }>;
  input(handle: TerminalHandle, data: string): void;
  resize(handle: TerminalHandle, size: Size): void;
  /** Resolves when everything in it is gone. */
  close(handle: TerminalHandle): Promise<{ readonly exitCode: number }>;
  /** Ends all terminals and takes no more. */
  drain(): Promise<void>;
}

const SIZE: Size = { cols: 80, rows: 24 };
const TERM = 'xterm-256color';
/** Bash where there is one: a plain sh has no history and no line editing. */
const DEFAULT_SHELL = ['/bin/sh', '-c', 'if [ -x /bin/bash ]; then exec /bin/bash; else exec /bin/sh; fi'] as const;

interface Entry {
  readonly handle: TerminalHandle;
  readonly terminal: Terminal;
  left: NodeJS.Timeout | undefined;
  idle: NodeJS.Timeout | undefined;
}

export function createTerminals(
  { sandbox, log }: { readonly sandbox: Sandbox; readonly log: Logger },
  options: TerminalsOptions = {},
): Terminals {
  const { leftMs = 60_000, idleMs = 15 * 60_000, perKeyMax = 8, totalMax = 32 } = options;
  const entries = new Map<string, Promise<Entry>>();
  const running = new Map<string, Entry>();
  let isDraining = false;

  const find = (handle: TerminalHandle): Entry => {
    const entry = running.get(idOf(handle));
    if (entry === undefined) throw new RpcError('not_found', { message: 'Not found: no such terminal is running' });
    return entry;
  };

  /** Starts the time that a terminal without watchers has left, or stops it. */
  const visit = (entry: Entry): void => {
    clearTimeout(entry.left);
    entry.left = undefined;
    if (entry.terminal.watchers === 0) entry.left = setTimeout(() => entry.terminal.kill(), leftMs).unref();
  };

  const watchIdle = (entry: Entry, waitMs: number): void => {
    entry.idle = setTimeout(() => {
      const restMs = idleMs - (performance.now() - entry.terminal.activeMs);
      if (restMs <= 0) entry.terminal.kill();
      else watchIdle(entry, restMs);
    }, waitMs).unref();
  };

  async function create(handle: TerminalHandle, request: TerminalRequest): Promise<Entry> {
    const argv = request.shell === undefined ? DEFAULT_SHELL : ([request.shell] as const);
    const spec = { keyId: handle.owner, argv: [...argv] as const, cwd: request.cwd, env: { TERM, ...request.env } };
    const command = await sandbox.command(spec);
    const startedMs = performance.now();
    const size = { cols: request.cols, rows: request.rows };
    const terminal = createTerminal(
      (onData) => openPty(command, size, onData),
      size,
      () => visit(entry),
    );
    const entry: Entry = { handle, terminal, left: undefined, idle: undefined };
    const id = idOf(handle);
    running.set(id, entry);
    visit(entry);
    watchIdle(entry, idleMs);
    void terminal.exited.then(({ exitCode }) => {
      clearTimeout(entry.left);
      clearTimeout(entry.idle);
      running.delete(id);
      entries.delete(id);
      const { requestId } = request;
      const durationMs = performance.now() - startedMs;
      auditCommand(log, { requestId, keyId: handle.owner, method: 'interactive.start', argv, exitCode, durationMs });
    });
    if (isDraining) terminal.kill();
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
        visit(entry);
        return { terminal: entry.terminal, resumed: true };
      }
      const own = [...entries.keys()].filter((other) => other.startsWith(`[${JSON.stringify(handle.owner)},`)).length;
      if (own >= perKeyMax || entries.size >= totalMax) {
        throw new RpcError('unavailable', {
          message: `Too many terminals are open (${perKeyMax} per key)`,
          retryAfterMs: 10_000,
        });
      }
      // The place is taken before anything is awaited, so that calls made at once cannot all find it free.
      const making = create(handle, { ...request, ...SIZE, ...sizeOf(request) });
      entries.set(id, making);
      making.catch(() => entries.delete(id));
      return { terminal: (await making).terminal, resumed: false };
    },

    input(handle, data) {
      const entry = find(handle);
      entry.terminal.write(data);
      if (entry.left !== undefined) visit(entry);
    },

    resize(handle, size) {
      const entry = find(handle);
      entry.terminal.resize(size);
      if (entry.left !== undefined) visit(entry);
    },

    async close(handle) {
      const { terminal } = find(handle);
      terminal.kill();
      return terminal.exited;
    },

    async drain() {
      isDraining = true;
      await Promise.allSettled(entries.values());
      const all = [...running.values()];
      for (const { terminal } of all) terminal.kill();
      await Promise.all(all.map(({ terminal }) => terminal.exited));
    },
  };
}

/** The owner is part of the id: a foreign handle names an absent terminal, so no check can be forgotten. */
function idOf({ owner, sessionId }: TerminalHandle): string {
  return JSON.stringify([owner, sessionId]);
}

function sizeOf({ cols, rows }: Partial<Size>): Partial<Size> {
  return { ...(cols !== undefined && { cols }), ...(rows !== undefined && { rows }) };
}
