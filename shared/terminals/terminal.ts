// One running terminal and its watchers. Each watcher reads the ring buffer at its own pace. When the fastest watcher
// falls behind, reading from the terminal pauses, and its processes block. A slower watcher that falls behind by more
// than the buffer receives the flag `missed`.
import { RpcError } from '../errors.ts';
import type { Pty } from './pty.ts';
import { createRingBuffer } from './ring-buffer.ts';
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

export const RING_BYTES = 100 << 10;
const PIECE_BYTES = 16 << 10;
/** Reading from the terminal pauses while the fastest watcher has more unread output than this. */
const AHEAD_BYTES_MAX = 64 << 10;
const UNREAD_INPUT_BYTES_MAX = 64 << 10;

interface Reader {
  seq: number;
  isGone: boolean;
  wake: () => void;
}

/**
 * Called after each change of the number of watchers. `leftAgoMs`: how long ago a watcher that has left counts as gone.
 */
export type OnWatchers = (count: number, leftAgoMs?: number) => void;

export function createTerminal(pty: Pty, size: Size, onWatchers: OnWatchers): Terminal {
  const ring = createRingBuffer(RING_BYTES);
  const readers = new Set<Reader>();
  const startedMs = performance.now();
  let activeMs = startedMs;
  let current = size;
  let isPaused = false;
  let ended: { readonly exitCode: number } | undefined;

  pty.listen((text) => {
    if (text === '') return;
    activeMs = performance.now();
    ring.push(text);
    for (const reader of readers) reader.wake();
    pauseOrResume();
  });
  const exited = pty.exited.then((ending) => {
    ended = ending;
    for (const reader of readers) reader.wake();
    return ending;
  });

  function pauseOrResume(): void {
    const behind = Math.min(...[...readers].map(({ seq }) => ring.bytesAfter(seq)));
    const mustPause = readers.size > 0 && behind > AHEAD_BYTES_MAX;
    if (mustPause === isPaused) return;
    isPaused = mustPause;
    if (mustPause) pty.pause();
    else pty.resume();
  }

  async function read(reader: Reader, watcher: Watcher): Promise<void> {
    while (!reader.isGone) {
      const { promise: woken, resolve } = Promise.withResolvers<void>();
      reader.wake = resolve;
      const piece = ring.after(reader.seq, PIECE_BYTES);
      if (piece !== undefined) {
        await watcher.output(piece);
        reader.seq = piece.seq;
        pauseOrResume();
      } else if (ended !== undefined) {
        await watcher.exit(ended.exitCode);
        return;
      } else await woken;
    }
  }

  return {
    startedMs,
    get size() {
      return current;
    },
    get lastSeq() {
      return ring.lastSeq;
    },
    get watchers() {
      return readers.size;
    },
    get activeMs() {
      return activeMs;
    },
    watch(watcher, afterSeq) {
      // A number above `lastSeq` belongs to a previous terminal of the session: start at the beginning.
      const reader: Reader = { seq: afterSeq > ring.lastSeq ? 0 : afterSeq, isGone: false, wake: () => {} };
      const leave = (agoMs = 0): void => {
        if (reader.isGone) return;
        reader.isGone = true;
        reader.wake();
        readers.delete(reader);
        pauseOrResume();
        onWatchers(readers.size, agoMs);
      };
      readers.add(reader);
      onWatchers(readers.size);
      // A watcher that throws is removed.
      read(reader, watcher).then(
        () => leave(),
        () => leave(),
      );
      return leave;
    },
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
