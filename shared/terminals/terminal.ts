// One running terminal: its input, its size, its end, and its output (terminal-output.ts).
import { RpcError } from '../errors.ts';
import type { Pty } from './pty.ts';
import { createTerminalOutput, type OnWatchers } from './terminal-output.ts';
import type { Size, StopWatching, Watcher } from './terminals.ts';

export interface Terminal {
  readonly size: Size;
  /** Number of the last piece of output. */
  readonly lastSeq: number;
  readonly watchers: number;
  /** `performance.now()` of its start. */
  readonly startedMs: number;
  /** The same of the last input or output. */
  readonly activeMs: number;
  /**
   * Sends the output after piece `afterSeq`, then live output, then the exit; also for a terminal that has ended.
   * Returns the function that stops the watcher (see the Terminals port).
   */
  watch(watcher: Watcher, afterSeq: number): StopWatching;
  /** Throws RpcError `unavailable` when the program in the terminal does not read its input. */
  write(data: string): void;
  resize(size: Size): void;
  kill(): void;
  /** Resolves when all of its processes have ended. */
  readonly exited: Promise<{ readonly exitCode: number }>;
}

const UNREAD_INPUT_BYTES_MAX = 64 << 10;

export function createTerminal(pty: Pty, size: Size, onWatchers: OnWatchers): Terminal {
  const output = createTerminalOutput(pty, onWatchers);
  const startedMs = performance.now();
  let activeMs = startedMs;
  let current = size;

  pty.listen((text) => {
    if (text === '') return;
    activeMs = performance.now();
    output.push(text);
  });
  const exited = pty.exited.then((ending) => {
    output.end(ending.exitCode);
    return ending;
  });

  return {
    startedMs,
    get size() {
      return current;
    },
    get lastSeq() {
      return output.lastSeq;
    },
    get watchers() {
      return output.watchers;
    },
    get activeMs() {
      return activeMs;
    },
    watch: output.watch,
    write(data) {
      if (pty.unreadBytes > UNREAD_INPUT_BYTES_MAX) {
        throw new RpcError('unavailable', {
          message: 'The program in the terminal does not read its input',
          retryAfterMs: 1_000,
        });
      }
      activeMs = performance.now();
      pty.write(data);
    },
    resize(to) {
      current = to;
      pty.resize(to);
    },
    kill: () => pty.kill(),
    exited,
  };
}
