// A pseudoterminal (pty(7)) whose slave side is given to a process in the sandbox. The native binding only opens and
// resizes it. The binding must not start the process: a process that it forks inherits the master sides of all other
// terminals. The binding is optional and is loaded when the first terminal starts; without it, the caller receives an
// error that names it.
import { closeSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { ReadStream } from 'node:tty';
import { codeOf, RpcError } from '../errors.ts';
import type { SandboxAttached } from '../sandbox/sandbox.ts';
import type { Size } from './terminals.ts';

/**
 * The used part of the native module `pty.node` of @lydell/node-pty. Its JavaScript is not used, because it keeps the
 * slave side open.
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
  /**
   * Pauses and resumes reading the output. While it is paused and the buffer of the kernel is full, processes that
   * write block.
   */
  pause(): void;
  resume(): void;
  /** Kills all processes in the terminal. Has no effect after the end. */
  kill(): void;
  /** Resolves when all processes in the terminal have ended and their output has been read. Never rejects. */
  readonly exited: Promise<{ readonly exitCode: number }>;
}

/** How long the remaining output may take to read after all processes have ended. */
const REMAINING_OUTPUT_MS = 1_000;
/** Delay before input that did not fit into the terminal is written again. */
const RETRY_MS = 10;

/**
 * `attach` starts the program in the terminal at the given path. Throws what `attach` throws, or RpcError
 * `sandbox_unavailable` without the binding.
 */
export async function openPty(size: Size, attach: (tty: string) => Promise<SandboxAttached>): Promise<Pty> {
  const binding = loadBinding();
  const { master, slave, pty: path } = binding.open(size.cols, size.rows);
  let attached: SandboxAttached;
  try {
    attached = await attach(path);
  } catch (error) {
    closeSync(master);
    throw error;
  } finally {
    // The slave side stays open until the process has opened it, because reading a terminal without an open slave side
    // fails (EIO). It must be closed then, otherwise the end of the process would not be detected.
    closeSync(slave);
  }
  const stream = new ReadStream(master);
  // The stream decoder keeps a character that is split between two reads.
  stream.setEncoding('utf8');
  // EIO means that all processes have closed the slave side.
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
      const timer = setTimeout(() => stream.destroy(), REMAINING_OUTPUT_MS);
      stream.resume();
      await closed;
      clearTimeout(timer);
      return { exitCode };
    }),
  };
}

/**
 * Writes to the non-blocking descriptor directly. A stream of Node would block the event loop: libuv retries the write
 * to a terminal's master until all bytes are written, so a program that does not read its input would stop the whole
 * gateway.
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
        const code = codeOf(error);
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

/**
 * Loads the binding by `require` at run time. An `import` would put a native binding into the bundle of the functions,
 * which start no process.
 */
function loadBinding(): Binding {
  try {
    const require = createRequire(createRequire(import.meta.url).resolve('@lydell/node-pty'));
    const binding: unknown = require(`@lydell/node-pty-${process.platform}-${process.arch}/pty.node`);
    if (isBinding(binding)) return binding;
    throw new Error('the PTY binding does not have the expected functions');
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
