// Reads the lines of a stream in time slices, so that other work can run between them, and within the share of event
// loop time that its owner may use. The stream is paused between the slices.
import type { Readable } from 'node:stream';
import { createLineReader } from './lines.ts';

/** The share of event loop time that the messages of one owner's servers may use. */
export interface TimeShare {
  spend(tookMs: number): void;
  /** How long to wait until the next message may be read. */
  waitMs(): number;
}

export interface PacedLines {
  /** Starts reading. */
  start(): void;
  /** Call it when no more bytes arrive: `onEnd` is called after the last line. */
  end(): void;
  /** Stops reading; no callback is called afterwards. */
  stop(): void;
}

export interface PacedLinesOptions {
  readonly lineBytesMax: number;
  readonly share: TimeShare;
  /** The buffer is valid during the call only. */
  onLine(line: Buffer): void;
  /** A line exceeds the bound. */
  onTooLong(error: unknown): void;
  onEnd(): void;
}

/** Maximum length of a time slice. */
const SLICE_MS = 10;

export function createPacedLines(stream: Readable, options: PacedLinesOptions): PacedLines {
  const { share, onLine, onTooLong, onEnd } = options;
  const lines = createLineReader(options.lineBytesMax);
  /** Bytes that wait for the next slice. The stream is paused while there are any, or a timer is set. */
  let rest: Buffer = Buffer.alloc(0);
  let timer: NodeJS.Timeout | undefined;
  let isStopped = false;
  let isEnded = false;

  const onData = (chunk: Buffer): void => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    if (timer === undefined) readSlice();
  };

  const readSlice = (): void => {
    const startedMs = performance.now();
    try {
      const takenBytes = lines.push(rest, (line) => {
        if (!isStopped && line.length > 0) onLine(line);
        return performance.now() - startedMs > SLICE_MS ? 'stop' : undefined;
      });
      rest = rest.subarray(takenBytes);
    } catch (error) {
      onTooLong(error);
    }
    // The handlers of the lines run in microtasks that were queued before this one.
    queueMicrotask(() => {
      share.spend(performance.now() - startedMs);
      next();
    });
  };

  const next = (): void => {
    timer = undefined;
    if (isStopped) return;
    const waitMs = share.waitMs();
    if (waitMs > 0 || rest.length > 0) {
      stream.pause();
      timer = setTimeout(rest.length > 0 && waitMs === 0 ? readSlice : next, waitMs);
    } else if (isEnded) onEnd();
    else stream.resume();
  };

  return {
    start() {
      stream.on('error', () => {});
      stream.on('data', onData);
    },
    end() {
      isEnded = true;
      if (timer === undefined) next();
    },
    stop() {
      isStopped = true;
      clearTimeout(timer);
      rest = Buffer.alloc(0);
      stream.off('data', onData);
    },
  };
}
