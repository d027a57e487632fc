// Collects the first bytes of a stream and drops the rest. The rest is read with pauses, so that output that is not
// returned costs the gateway little processor time.
import type { Readable } from 'node:stream';

export interface Collected {
  readonly bytes: Buffer;
  readonly truncated: boolean;
}

/** Pause between two reads of dropped output: at most 64 KiB per pause, some tens of MB/s. */
const DROP_PAUSE_MS = 1;
const FIRST_BYTES = 4096;

/**
 * Resolves when the stream is closed and the last promise of `onBytes` is settled. `onBytes` receives the collected
 * bytes as they arrive, one piece after the other; the stream is paused while a promise that it returned is pending.
 * Never rejects.
 */
export function collect(
  stream: Readable,
  bytesMax: number,
  onBytes: ((bytes: Buffer) => void | Promise<void>) | undefined,
): Promise<Collected> {
  return new Promise((resolve) => {
    // One growing buffer instead of a list of chunks, in which each one-byte write would cost a hundred bytes.
    let buffer = Buffer.allocUnsafeSlow(Math.min(FIRST_BYTES, bytesMax));
    let size = 0;
    let truncated = false;
    let taking: Promise<void> | undefined;

    stream.on('data', (chunk: Buffer) => {
      const part = chunk.subarray(0, bytesMax - size);
      if (part.length < chunk.length) truncated = true;
      if (part.length === 0) {
        stream.pause();
        setTimeout(() => stream.resume(), DROP_PAUSE_MS);
        return;
      }
      append(part);
      pass(part);
    });
    stream.on('error', () => {});
    const done = (): void => {
      void Promise.resolve(taking).then(() => resolve({ bytes: buffer.subarray(0, size), truncated }));
    };
    // A stream without a byte may have closed before a listener was added.
    if (stream.closed) done();
    else stream.once('close', done);

    /** At the end of its process the stream is resumed, also while a promise is pending. */
    function pass(part: Buffer): void {
      const pending = taking === undefined ? onBytes?.(part) : taking.then(() => onBytes?.(part));
      if (pending === undefined) return;
      stream.pause();
      const current = pending
        .catch(() => {})
        .then(() => {
          if (taking !== current) return;
          taking = undefined;
          stream.resume();
        });
      taking = current;
    }

    function append(part: Buffer): void {
      if (size + part.length > buffer.length) {
        const wider = Buffer.allocUnsafeSlow(Math.min(bytesMax, Math.max(buffer.length * 2, size + part.length)));
        buffer.copy(wider, 0, 0, size);
        buffer = wider;
      }
      part.copy(buffer, size);
      size += part.length;
    }
  });
}
