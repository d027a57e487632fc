// Detects clients that have gone while a long response is being sent.
import type { ServerResponse } from 'node:http';

/**
 * The first write to a client that has gone brings its reset, the second fails: one soon after the first, then one a
 * second.
 */
const SECOND_WRITE_MS = 50;
const NEXT_WRITES_MS = 1_000;

/**
 * Calls `write` repeatedly once the client has ended its side while it is being answered: the client may still read, or
 * it may have gone, which only writes show. Ends with the response.
 */
export function onHalfClose(res: ServerResponse, write: () => void): void {
  const { socket } = res.req;
  let timer: NodeJS.Timeout | undefined;
  const writeNext = (delayMs: number): void => {
    if (res.destroyed || res.writableEnded) return;
    write();
    timer = setTimeout(writeNext, delayMs, NEXT_WRITES_MS);
    timer.unref();
  };
  const onEnd = (): void => writeNext(SECOND_WRITE_MS);
  socket.once('end', onEnd);
  res.once('close', () => {
    socket.off('end', onEnd);
    clearTimeout(timer);
  });
}
