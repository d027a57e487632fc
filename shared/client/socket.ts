// One call over a WebSocket of its own, opened with a ticket, as browsers need it. Refuses to keep more than it may: a
// reader that is too slow loses the connection, not events, for a turn can be resumed.
import { CLOSE, METHODS } from '../protocol.ts';
import type { Notification } from './events.ts';
import { networkError } from './gateway-error.ts';
import { type Call, callOnce, type Endpoint, type OpenStream, toMessage, toResult } from './http.ts';
import { startWatch, type Timer } from './timer.ts';

/** The part of a WebSocket that is used: a browser's, Node's, or that of the package ws. */
export interface SocketLike {
  send(text: string): void;
  close(code?: number, reason?: string): void;
  addEventListener(
    type: 'open' | 'message' | 'close' | 'error',
    listener: (event: { readonly type: string; readonly data?: unknown; readonly code?: number }) => void,
  ): void;
}

export type SocketConstructor = new (url: string, protocols: string[]) => SocketLike;

/** Browsers do not show pings: a turn that sends nothing for this long is resumed on a new connection. */
const SILENCE_MS = 120_000;
/** Characters that wait for the reader. */
const WAITING_CHARS_MAX = 16 << 20;

export function createSockets(endpoint: Endpoint, socketUrl: string, Socket: SocketConstructor): OpenStream {
  return async function* open(call) {
    const watch = startWatch(SILENCE_MS, call.signal);
    let socket: SocketLike | undefined;
    try {
      const protocols = await ticketFor(endpoint, watch.signal);
      watch.signal.throwIfAborted();
      socket = new Socket(socketUrl, protocols);
      return yield* readSocket(socket, call, watch);
    } finally {
      watch.end();
      socket?.close(CLOSE.normal);
    }
  };
}

async function ticketFor(endpoint: Endpoint, signal: AbortSignal): Promise<string[]> {
  const result = await callOnce(endpoint, { method: METHODS.ticket, params: {}, signal });
  const protocols = typeof result === 'object' && result !== null && 'protocols' in result ? result.protocols : [];
  return Array.isArray(protocols) ? protocols.map(String) : [];
}

async function* readSocket(
  socket: SocketLike,
  { method, params }: Call,
  watch: Timer,
): AsyncGenerator<Notification, unknown, void> {
  const waiting: string[] = [];
  let waitingChars = 0;
  let ending: Error | undefined;
  let wake = (): void => {};
  const end = (error: Error): void => {
    ending ??= error;
    wake();
  };
  const onAbort = (): void => end(watch.signal.reason);
  watch.signal.addEventListener('abort', onAbort, { once: true });
  socket.addEventListener('open', () => socket.send(JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 })));
  socket.addEventListener('error', () => end(networkError('the WebSocket failed')));
  socket.addEventListener('close', ({ code }) =>
    end(networkError(`the WebSocket was closed (${code ?? CLOSE.abnormal})`)),
  );
  socket.addEventListener('message', ({ data }) => {
    if (typeof data !== 'string' || ending !== undefined) return;
    watch.restart();
    waiting.push(data);
    waitingChars += data.length;
    if (waitingChars > WAITING_CHARS_MAX) end(networkError('the reader is too slow for the WebSocket'));
    wake();
  });
  try {
    for (;;) {
      const text = waiting.shift();
      if (text === undefined) {
        if (ending !== undefined) throw ending;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        continue;
      }
      waitingChars -= text.length;
      const message = toMessage(text);
      if ('method' in message) yield message;
      else return toResult(message.response);
    }
  } finally {
    watch.signal.removeEventListener('abort', onAbort);
  }
}
