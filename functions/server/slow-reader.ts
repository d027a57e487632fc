// Sends large responses in pieces, as fast as the client reads. Closes the connection of a client that does not read,
// because unread bytes stay in memory.
import type { ServerResponse } from 'node:http';
import { nextHeavyTurn } from '../../shared/async.ts';

/** A client that does not read for this long is disconnected. Its turn continues and can be resumed. */
const STUCK_MS = 30_000;
const PIECE_BYTES = 256 << 10;
const ENCODED_CHARS = 1 << 20;

/**
 * Resolves when the client has read everything or the socket is closed. Destroys the socket if the client does not read
 * in time.
 */
export function taken(res: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      res.off('drain', done).off('close', done);
      resolve();
    };
    const timer = setTimeout(() => res.destroy(), STUCK_MS);
    res.on('drain', done).on('close', done);
  });
}

/** Ends the response with `text`; resolves when a large one has been read, or the client has disconnected. */
export async function endWith(res: ServerResponse, text: string): Promise<void> {
  if (text.length <= PIECE_BYTES) {
    res.end(text);
    return;
  }
  // The text is copied once, to memory outside of the heap; the pieces are views of that copy.
  const bytes = await encode(text);
  for (let start = 0; start < bytes.length && !res.destroyed; start += PIECE_BYTES) {
    if (!res.write(bytes.subarray(start, start + PIECE_BYTES))) await taken(res);
  }
  res.end();
}

/** As UTF-8, a piece per iteration of the event loop: megabytes that are not Latin-1 take a tenth of a second. */
async function encode(text: string): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(Buffer.byteLength(text));
  for (let start = 0, at = 0; start < text.length; ) {
    const end = start + ENCODED_CHARS;
    // The halves of a surrogate pair stay together.
    const isPair = end < text.length && (text.charCodeAt(end - 1) & 0xfc00) === 0xd800;
    const piece = text.slice(start, isPair ? end - 1 : end);
    await nextHeavyTurn();
    at += bytes.write(piece, at);
    start += piece.length;
  }
  return bytes;
}
