// Answers go out at the pace of their reader: a large one in pieces, and a reader that takes nothing is cut off,
// because what it was sent stays in memory until then.
import type { ServerResponse } from 'node:http';

/** A reader that takes nothing for this long is gone; its turn goes on and can be resumed. */
const STUCK_MS = 30_000;
const PIECE_BYTES = 256 << 10;

/** Resolves when the socket is empty again or closed; cuts it when it does not move. */
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

/** Ends the response with `text`; resolves once a large one has been taken, or its reader has gone. */
export async function endWith(res: ServerResponse, text: string): Promise<void> {
  if (text.length <= PIECE_BYTES) {
    res.end(text);
    return;
  }
  // One copy outside of the heap in the place of the text, and pieces of it without another.
  const bytes = Buffer.from(text);
  for (let start = 0; start < bytes.length && !res.destroyed; start += PIECE_BYTES) {
    if (!res.write(bytes.subarray(start, start + PIECE_BYTES))) await taken(res);
  }
  res.end();
}
