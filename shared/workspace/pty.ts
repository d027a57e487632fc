// A pseudoterminal around a command line of the sandbox. The binding is native and optional: it is loaded when the first terminal starts, and
// where it is missing the caller is told so.
import { readFileSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Duplex } from 'node:stream';
import { RpcError } from '../errors.ts';
import type { SandboxCommand } from './sandbox.ts';
import { gone } from './sandbox-process.ts';

type Binding = typeof import('@lydell/node-pty');

export interface Size {
  readonly cols: number;
  readonly rows: number;
}

export interface Pty {
  /** Bytes written that the terminal has not taken. */
  readonly unreadBytes: number;
  write(text: string): void;
  resize(size: Size): void;
  /** Stops and continues reading what the terminal says; what runs in it waits then. */
  pause(): void;
  resume(): void;
  /** Ends everything inside; harmless when it has ended. */
  kill(): void;
  /** Resolves once everything inside is gone and its output has been heard. Never rejects. */
  readonly exited: Promise<{ readonly exitCode: number }>;
}

/** A sandbox killed while it is being set up could leave a process behind: it has this long to say something first. */
const SETUP_MS = 250;
/** Between two tries to write what the terminal had no room for. */
const RETRY_MS = 10;
/** Reads as UTF-8; the stream below keeps a character that is cut between two reads. */
const ENCODING = 'utf8';

/** Takes the command over: its slot is given back when the process has gone. Throws RpcError `sandbox_unavailable` without the binding. */
export function openPty(command: SandboxCommand, size: Size, onData: (text: string) => void): Pty {
  try {
    return open(command, size, onData);
  } catch (error) {
    command.release();
    throw error;
  }
}

function open(command: SandboxCommand, { cols, rows }: Size, onData: (text: string) => void): Pty {
  const pty = load().spawn(command.file, [...command.args], {
    cols,
    rows,
    cwd: '/',
    env: { ...command.env },
    encoding: ENCODING,
  });
  command.tame(pty.pid);
  const below: unknown = Reflect.get(pty, '_socket');
  const fd: unknown = Reflect.get(pty, 'fd');
  if (typeof fd !== 'number' || !(below instanceof Duplex)) throw new Error('the PTY binding is not the one we know');
  const isOpen = (): boolean => !below.destroyed;
  const input = createInput(fd, isOpen);
  const startedMs = performance.now();
  let isSetUp = false;
  let initPid: number | undefined;
  let hasEnded = false;
  let killTimer: NodeJS.Timeout | undefined;
  const { promise: exited, resolve } = Promise.withResolvers<{ readonly exitCode: number }>();
  pty.onData((text) => {
    if (!isSetUp) initPid = childOf(pty.pid);
    isSetUp = true;
    onData(text);
  });
  pty.onExit(({ exitCode, signal }) => {
    hasEnded = true;
    clearTimeout(killTimer);
    command.release();
    void gone(initPid).then(() => resolve({ exitCode: signal ? 128 + signal : exitCode }));
  });
  const ifAlive = (work: () => void): void => {
    // Its pid may be another's by now, and its descriptor as well.
    if (!hasEnded && isOpen()) work();
  };
  return {
    get unreadBytes() {
      return input.pendingBytes;
    },
    write: input.write,
    resize: (to) => ifAlive(() => pty.resize(to.cols, to.rows)),
    pause: () => ifAlive(() => pty.pause()),
    resume: () => ifAlive(() => pty.resume()),
    kill() {
      const kill = (): void => {
        if (!hasEnded) pty.kill('SIGKILL');
      };
      // What waits to be read would keep the terminal open.
      ifAlive(() => pty.resume());
      const waitMs = isSetUp ? 0 : Math.max(0, SETUP_MS - (performance.now() - startedMs));
      if (waitMs === 0) kill();
      else killTimer ??= setTimeout(kill, waitMs);
    },
    exited,
  };
}

/** The init of the sandbox, bwrap's only child; undefined where the machine does not tell. */
function childOf(pid: number): number | undefined {
  try {
    return Number.parseInt(readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1'), 10) || undefined;
  } catch {
    return undefined;
  }
}

/**
 * Writes to the descriptor, which does not block. The binding's own write does: libuv takes a terminal's master for one that must be written
 * to in full, and spins until a program that does not read its input reads it, the whole gateway with it.
 */
function createInput(fd: number, isOpen: () => boolean) {
  let pending = Buffer.alloc(0);
  let timer: NodeJS.Timeout | undefined;

  function flush(): void {
    timer = undefined;
    while (pending.length > 0 && isOpen()) {
      try {
        pending = pending.subarray(writeSync(fd, pending));
      } catch (error) {
        const code = error instanceof Error && 'code' in error ? error.code : undefined;
        if (code === 'EAGAIN') timer = setTimeout(flush, RETRY_MS);
        else if (code !== 'EINTR') pending = Buffer.alloc(0);
        if (code !== 'EINTR') return;
      }
    }
  }

  return {
    get pendingBytes() {
      return pending.length;
    },
    write(text: string) {
      if (!isOpen()) return;
      pending = Buffer.concat([pending, Buffer.from(text)]);
      if (timer === undefined) flush();
    },
  };
}

/** Not an import: the bundle of the functions, which start no process, must not carry a native binding. */
function load(): Binding {
  try {
    const binding: Binding = createRequire(import.meta.url)('@lydell/node-pty');
    return binding;
  } catch (cause) {
    throw new RpcError('sandbox_unavailable', {
      message: 'Terminals are unavailable: the PTY binding is not installed for this machine',
      data: { hint: 'npm install @lydell/node-pty (Linux and macOS, x64 and arm64)' },
      cause,
    });
  }
}
