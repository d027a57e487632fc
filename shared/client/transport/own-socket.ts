// A stream over its own WebSocket, opened with a ticket, because browsers cannot send the key as a header.
import { type Connection, openConnection, type SocketConstructor, streamCall } from './connection.ts';
import type { Endpoint, OpenStream } from './http.ts';
import { requestTicket } from './ticket.ts';
import { startWatch } from './timer.ts';

/** Browsers do not report pings, so a turn without an event for this long is resumed on a new connection. */
const SILENCE_MS = 120_000;

export function createOwnSockets(endpoint: Endpoint, socketUrl: string, Socket: SocketConstructor): OpenStream {
  return async function* open(call) {
    const watch = startWatch(SILENCE_MS, call.signal);
    let connection: Connection | undefined;
    try {
      const protocols = await requestTicket(endpoint, watch.signal);
      watch.signal.throwIfAborted();
      connection = await openConnection(new Socket(socketUrl, protocols), watch.signal, { onMessage: watch.restart });
      return yield* streamCall(connection, { ...call, signal: watch.signal });
    } finally {
      watch.end();
      connection?.close();
    }
  };
}
