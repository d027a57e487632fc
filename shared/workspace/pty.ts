// A pseudoterminal around a command line of the sandbox. The binding is native and optional: it is loaded when the first terminal starts, and
// where it is missing the caller is told so.
import { createRequire } from 'node:module';
import { Duplex } from 'node:stream';
import { RpcError } from '../errors.ts';
import type { SandboxCommand } from './sandbox.ts';

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
  const startedMs = performance.now();
  let isSetUp = false;
  let hasEnded = false;
  let killTimer: NodeJS.Timeout | undefined;
  const { promise: exited, resolve } = Promise.withResolvers<{ readonly exitCode: number }>();
  pty.onData((text) => {
    isSetUp = true;
    onData(text);
  });
  pty.onExit(({ exitCode, signal }) => {
    hasEnded = true;
    clearTimeout(killTimer);
    command.release();
    resolve({ exitCode: signal ? 128 + signal : exitCode });
  });
  const ifAlive = (work: () => void): void => {
    // Its pid may be another's by now, and its descriptor as well.
    if (!hasEnded) work();
  };
  return {
    get unreadBytes() {
      return below instanceof Duplex ? below.writableLength : 0;
    },
    write: (text) => ifAlive(() => pty.write(text)),
    resize: (to) => ifAlive(() => pty.resize(to.cols, to.rows)),
    pause: () => ifAlive(() => pty.pause()),
    resume: () => ifAlive(() => pty.resume()),
    kill() {
      const kill = (): void => ifAlive(() => pty.kill('SIGKILL'));
      // What waits to be read would keep the terminal open.
      ifAlive(() => pty.resume());
      const waitMs = isSetUp ? 0 : Math.max(0, SETUP_MS - (performance.now() - startedMs));
      if (waitMs === 0) kill();
      else killTimer ??= setTimeout(kill, waitMs);
    },
    exited,
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
