// Follows the output of a terminal for one watcher. When a link is over, it continues on the next link after the last
// piece that the watcher has received.
import { pause } from '../../async.ts';
import { RpcError } from '../../errors.ts';
import type { Watcher } from '../../terminals/terminals.ts';
import type { LinkStream } from '../link/link.ts';
import { createFrameReader } from '../terminal-frames.ts';

export interface WatchOptions {
  readonly watcher: Watcher;
  readonly afterSeq: number;
  /** Opens a stream with the output after a piece. Rejects with `not_found` for a terminal that does not exist. */
  open(afterSeq: number): Promise<LinkStream>;
}

/** How long reconnecting is tried. A terminal without watchers ends after this time. */
const RECONNECT_MS_MAX = 60_000;
const RETRY_MS = 500;
/**
 * The exit code of a killed process, reported for a terminal that ended with the service or because it had no watchers.
 */
const KILLED = 137;

/** Rejects when the first stream cannot be opened; resolves with a function that stops the watcher. */
export async function watchOver({ watcher, afterSeq, open }: WatchOptions): Promise<() => void> {
  const stopped = new AbortController();
  let seq = afterSeq;
  let stream = await open(seq);
  void follow();
  return () => {
    stopped.abort();
    stream.destroy();
  };

  async function follow(): Promise<void> {
    try {
      while ((await read()) === 'lost') {
        if (await reopen()) continue;
        if (!stopped.signal.aborted) await watcher.exit(KILLED);
        return;
      }
    } catch {
      // A watcher that throws is removed, also after an invalid frame.
    } finally {
      stream.destroy();
    }
  }

  /**
   * Reads until the exit of the terminal (`over`) or the end of the stream (`lost`). Rejects if the watcher throws or a
   * frame is invalid.
   */
  async function read(): Promise<'over' | 'lost'> {
    const takeFrames = createFrameReader();
    const chunks: AsyncIterator<Buffer> = stream[Symbol.asyncIterator]();
    for (;;) {
      const next = await chunks.next().catch(() => undefined);
      if (stopped.signal.aborted) return 'over';
      if (next === undefined || next.done === true) return 'lost';
      for (const frame of takeFrames(next.value)) {
        if (stopped.signal.aborted) return 'over';
        if ('exitCode' in frame) {
          await watcher.exit(frame.exitCode);
          return 'over';
        }
        await watcher.output(frame);
        seq = frame.seq;
      }
    }
  }

  async function reopen(): Promise<boolean> {
    stream.destroy();
    const lostMs = performance.now();
    while (performance.now() - lostMs < RECONNECT_MS_MAX) {
      try {
        await pause(RETRY_MS, stopped.signal);
        stream = await open(seq);
        if (stopped.signal.aborted) stream.destroy();
        return !stopped.signal.aborted;
      } catch (error) {
        if (stopped.signal.aborted) return false;
        if (error instanceof RpcError && ['not_found', 'sandbox_unavailable'].includes(error.reason)) return false;
      }
    }
    return false;
  }
}
