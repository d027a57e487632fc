// Detects clients that disconnect while a long response is being sent.
import type { ServerResponse } from 'node:http';

/**
 * Intervals of the writes. The first write to a disconnected client makes its machine send a reset (RST), after which
 * the second write fails. So the second write follows soon after the first, further ones once per second.
 */
const SECOND_WRITE_MS = 50;
const NEXT_WRITES_MS = 1_000;

/**
 * Calls `write` repeatedly after the client has ended its side of the connection (FIN) during the response. The client
 * may still read, or it may have disconnected; only a failing write shows which. Stops when the response ends.
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
