// Keeps the first bytes of a stream and drops the rest, slowly: output that is not returned must not use the gateway's
// processor time.
import type { Readable } from 'node:stream';

export interface Kept {
  readonly bytes: Buffer;
  readonly truncated: boolean;
}

/** Pause between two reads of dropped output: at most 64 KiB per pause, some tens of MB/s. */
const DROP_PAUSE_MS = 1;
const FIRST_BYTES = 4096;

/**
 * Resolves when the stream is closed. `onKept` receives the kept bytes as they arrive; a pending promise pauses the
 * stream. Never rejects.
 */
export function keep(
  stream: Readable,
  bytesMax: number,
  onKept: ((bytes: Buffer) => void | Promise<void>) | undefined,
): Promise<Kept> {
  return new Promise((resolve) => {
    // One growing buffer: in a list of chunks, each of a million one-byte writes would cost a hundred bytes.
    let kept = Buffer.allocUnsafeSlow(Math.min(FIRST_BYTES, bytesMax));
    let size = 0;
    let truncated = false;

    stream.on('data', (chunk: Buffer) => {
      const part = chunk.subarray(0, bytesMax - size);
      if (part.length < chunk.length) truncated = true;
      if (part.length === 0) {
        stream.pause();
        setTimeout(() => stream.resume(), DROP_PAUSE_MS);
        return;
      }
      append(part);
      const pending = onKept?.(part);
      if (pending === undefined) return;
      stream.pause();
      void pending.catch(() => {}).then(() => stream.resume());
    });
    stream.on('error', () => {});
    // A stream without a byte may have closed before a listener was added.
    const done = (): void => resolve({ bytes: kept.subarray(0, size), truncated });
    if (stream.closed) done();
    else stream.once('close', done);

    function append(part: Buffer): void {
      if (size + part.length > kept.length) {
        const wider = Buffer.allocUnsafeSlow(Math.min(bytesMax, Math.max(kept.length * 2, size + part.length)));
        kept.copy(wider, 0, 0, size);
        kept = wider;
      }
      part.copy(kept, size);
      size += part.length;
    }
  });
}
