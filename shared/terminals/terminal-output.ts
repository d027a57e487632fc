// The output of one terminal and its watchers. Each watcher reads the ring buffer at its own pace. When the fastest
// watcher falls behind, reading from the terminal pauses, and its processes block. A slower watcher that falls behind
// by more than the buffer receives the flag `missed`.
import type { Pty } from './pty.ts';
import { createRingBuffer } from './ring-buffer.ts';
import type { StopWatching, Watcher } from './terminals.ts';

const RING_BYTES = 100 << 10;
const PIECE_BYTES = 16 << 10;
/** Reading from the terminal pauses while the fastest watcher has more unread output than this. */
const AHEAD_BYTES_MAX = 64 << 10;

/**
 * Called after each change of the number of watchers. `leftAgoMs`: how long ago a watcher that has left counts as gone.
 */
export type OnWatchers = (count: number, leftAgoMs?: number) => void;

export interface TerminalOutput {
  /** Number of the last piece. */
  readonly lastSeq: number;
  readonly watchers: number;
  push(text: string): void;
  /** The terminal has ended: its watchers receive the exit after the output. */
  end(exitCode: number): void;
  /** As `watch` of a terminal. */
  watch(watcher: Watcher, afterSeq: number): StopWatching;
}

interface Reader {
  seq: number;
  isGone: boolean;
  wake: () => void;
}

/** Pauses and resumes `pty`; the caller passes its output to `push`. */
export function createTerminalOutput(pty: Pick<Pty, 'pause' | 'resume'>, onWatchers: OnWatchers): TerminalOutput {
  const ring = createRingBuffer(RING_BYTES);
  const readers = new Set<Reader>();
  let isPaused = false;
  let endedWith: number | undefined;

  const pauseOrResume = (): void => {
    const behind = Math.min(...[...readers].map(({ seq }) => ring.bytesAfter(seq)));
    const mustPause = readers.size > 0 && behind > AHEAD_BYTES_MAX;
    if (mustPause === isPaused) return;
    isPaused = mustPause;
    if (mustPause) pty.pause();
    else pty.resume();
  };

  const wakeAll = (): void => {
    for (const reader of readers) reader.wake();
  };

  /** Sends the output to a watcher until it has left or received the exit. */
  const read = async (reader: Reader, watcher: Watcher): Promise<void> => {
    while (!reader.isGone) {
      const { promise: woken, resolve } = Promise.withResolvers<void>();
      reader.wake = resolve;
      const piece = ring.after(reader.seq, PIECE_BYTES);
      if (piece !== undefined) {
        await watcher.output(piece);
        reader.seq = piece.seq;
        pauseOrResume();
      } else if (endedWith !== undefined) {
        await watcher.exit(endedWith);
        return;
      } else await woken;
    }
  };

  const leave = (reader: Reader, agoMs: number): void => {
    if (reader.isGone) return;
    reader.isGone = true;
    reader.wake();
    readers.delete(reader);
    pauseOrResume();
    onWatchers(readers.size, agoMs);
  };

  return {
    get lastSeq() {
      return ring.lastSeq;
    },
    get watchers() {
      return readers.size;
    },
    push(text) {
      ring.push(text);
      wakeAll();
      pauseOrResume();
    },
    end(exitCode) {
      endedWith = exitCode;
      wakeAll();
    },
    watch(watcher, afterSeq) {
      // A number above `lastSeq` belongs to a previous terminal of the session: start at the beginning.
      const reader: Reader = { seq: afterSeq > ring.lastSeq ? 0 : afterSeq, isGone: false, wake: () => {} };
      readers.add(reader);
      onWatchers(readers.size);
      // A watcher that throws is removed.
      void read(reader, watcher)
        .catch(() => {})
        .then(() => leave(reader, 0));
      return (agoMs = 0) => leave(reader, agoMs);
    },
  };
}
