// Helpers for streams of a link: reading to the end within a bound, and writing at the reader's pace.
import type { Readable, Writable } from 'node:stream';
import { RpcError } from '../errors.ts';

/**
 * Returns all bytes of a stream. Rejects with `payload_too_large` if there are more than `bytesMax`, with the signal's
 * reason when it aborts, and with the error of a stream that is destroyed. `onBytes` receives the bytes as they arrive;
 * the stream is paused while a promise that it returned is pending, and the last one is awaited.
 */
export function readAll(
  stream: Readable,
  bytesMax: number,
  signal: AbortSignal,
  onBytes?: (bytes: Buffer) => void | Promise<void>,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    let taking: Promise<void> | undefined;
    const stop = (error?: unknown): void => {
      signal.removeEventListener('abort', onAbort);
      stream.off('data', onData).off('end', onEnd).off('close', onClose);
      if (error === undefined) resolve(Buffer.concat(chunks));
      else reject(error);
    };
    const onAbort = (): void => stop(signal.reason);
    // A chunk that is read together with the end is followed by it, even if the stream is paused.
    const onEnd = (): void => {
      stream.off('close', onClose);
      void Promise.resolve(taking).then(() => stop());
    };
    const onClose = (): void => stop(stream.errored ?? new RpcError('cancelled', { message: 'a stream was reset' }));
    const onData = (chunk: Buffer): void => {
      size += chunk.length;
      if (size > bytesMax) {
        stop(new RpcError('payload_too_large', { message: `a stream is longer than ${bytesMax} bytes` }));
        return;
      }
      chunks.push(chunk);
      const pending = onBytes?.(chunk);
      if (pending === undefined) return;
      stream.pause();
      taking = pending.catch(() => {}).then(() => void stream.resume());
    };
    if (signal.aborted) return stop(signal.reason);
    if (stream.readableEnded) return stop();
    if (stream.destroyed) return onClose();
    signal.addEventListener('abort', onAbort, { once: true });
    stream.on('data', onData).once('end', onEnd).once('close', onClose);
  });
}

/** Writes bytes. Resolves when the stream accepts more, or is destroyed. */
export function writeTo(stream: Writable, bytes: Uint8Array): void | Promise<void> {
  if (stream.destroyed || stream.write(bytes)) return;
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off('drain', done).off('close', done);
      resolve();
    };
    stream.on('drain', done).on('close', done);
  });
}

/** Ends a stream. Resolves when all bytes have been sent, or when the stream is destroyed. */
export function endOf(stream: Writable): Promise<void> {
  return new Promise((resolve) => {
    if (stream.destroyed) return resolve();
    stream.once('finish', resolve).once('close', resolve);
    stream.end();
  });
}

/** Resolves when a stream is closed, with or without an error. */
export function closed(stream: Readable): Promise<void> {
  return new Promise((resolve) => {
    if (stream.closed) resolve();
    else stream.once('close', resolve);
  });
}
