// A pseudoterminal whose slave side is given to a process of the sandbox. The native binding opens and resizes it, and
// starts no process: a process that the binding forked would inherit the master sides of all other terminals. The
// binding is optional and loaded when the first terminal starts; where it is missing the caller gets an error that
// names it.
import { closeSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { ReadStream } from 'node:tty';
import { RpcError } from '../errors.ts';
import type { SandboxAttached } from '../sandbox/sandbox.ts';
import type { Size } from './terminals.ts';

/**
 * The part of the native module that is used (`pty.node` of @lydell/node-pty, whose own JavaScript keeps the slave side
 * open).
 */
interface Binding {
  open(cols: number, rows: number): { readonly master: number; readonly slave: number; readonly pty: string };
  resize(master: number, cols: number, rows: number): void;
}

export interface Pty {
  /** Bytes written that the terminal has not accepted yet. */
  readonly unreadBytes: number;
  /** Starts reading; call it once. */
  listen(onData: (text: string) => void): void;
  write(text: string): void;
  resize(size: Size): void;
  /** Pause and resume reading the output; processes in the terminal block while it is full. */
  pause(): void;
  resume(): void;
  /** Ends everything inside; has no effect after the end. */
  kill(): void;
  /** Resolves once everything inside has ended and its output has been read. Never rejects. */
  readonly exited: Promise<{ readonly exitCode: number }>;
}

/** When everything inside has ended, little output is left to read. */
const REST_MS = 1_000;
/** Between two attempts to write what the terminal had no room for. */
const RETRY_MS = 10;
/**
 * `attach` starts what runs in the terminal with that path. Throws what it throws, or RpcError `sandbox_unavailable`
 * without the binding.
 */
export async function openPty(size: Size, attach: (tty: string) => Promise<SandboxAttached>): Promise<Pty> {
  const binding = load();
  const { master, slave, pty: path } = binding.open(size.cols, size.rows);
  let attached: SandboxAttached;
  try {
    attached = await attach(path);
  } catch (error) {
    closeSync(master);
    throw error;
  } finally {
    // Kept open until the process has it: a terminal that no process has open is at its end. Kept open longer, the end
    // would not be detected.
    closeSync(slave);
  }
  const stream = new ReadStream(master);
  // The stream decoder keeps a character that is split between two reads.
  stream.setEncoding('utf8');
  // EIO: all processes have closed the slave side.
  stream.on('error', () => {});
  const closed = new Promise<void>((resolve) => stream.once('close', () => resolve()));
  const isOpen = (): boolean => !stream.destroyed;
  const input = createInput(master, isOpen);
  return {
    get unreadBytes() {
      return input.pendingBytes;
    },
    listen: (onData) => void stream.on('data', onData),
    write: input.write,
    resize({ cols, rows }) {
      if (isOpen()) binding.resize(master, cols, rows);
    },
    pause: () => void stream.pause(),
    resume: () => void stream.resume(),
    kill: () => attached.kill(),
    exited: attached.exited.then(async ({ exitCode }) => {
      const timer = setTimeout(() => stream.destroy(), REST_MS);
      stream.resume();
      await closed;
      clearTimeout(timer);
      return { exitCode };
    }),
  };
}

/**
 * Writes to the descriptor, which does not block. The binding's own write blocks: libuv treats a terminal's master as a
 * descriptor that must be written to in full, and spins until a program that does not read its input reads it, which
 * stops the whole gateway.
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

/** Not an import: the bundle of the functions, which start no process, must not contain a native binding. */
function load(): Binding {
  try {
    const require = createRequire(createRequire(import.meta.url).resolve('@lydell/node-pty'));
    const binding: unknown = require(`@lydell/node-pty-${process.platform}-${process.arch}/pty.node`);
    if (isBinding(binding)) return binding;
    throw new Error('the PTY binding has another form');
  } catch (cause) {
    throw new RpcError('sandbox_unavailable', {
      message: 'Terminals are unavailable: the PTY binding is not installed for this machine',
      data: { disabled_by: 'deployment', hint: 'npm install @lydell/node-pty (Linux, x64 and arm64)' },
      cause,
    });
  }
}

function isBinding(value: unknown): value is Binding {
  return typeof value === 'object' && value !== null && 'open' in value && 'resize' in value;
}
