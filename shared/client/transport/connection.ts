// One open WebSocket: sends calls, receives responses and notifications. When it ends, every call in flight rejects
// with the reason.
import { isObject } from '../../json/json-object.ts';
import { CLOSE } from '../../protocol.ts';
import type { Notification } from '../events.ts';
import { networkError } from '../gateway-error.ts';
import { type Call, toMessage, toResult } from './http.ts';

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

/** `chars`: length of the message. */
export type OnNotification = (notification: Notification, chars: number) => void;

export interface Connection {
  /**
   * Sends a call and resolves with its result. Rejects with its error, with the reason of its signal, or with
   * `network` when the connection ends first.
   */
  call(call: Call): Promise<unknown>;
  /** Passes every notification to `onNotification` until the returned function is called. */
  listen(onNotification: OnNotification): () => void;
  close(): void;
}

export interface ConnectionEvents {
  /** Called at every message. */
  onMessage?(): void;
  /** Called once after the connection was open, before the calls in flight are rejected. */
  onEnd?(reason: Error): void;
}

/** Most characters of notifications that wait for the reader of a stream. */
const WAITING_CHARS_MAX = 16 << 20;

/** Resolves when the socket is open. While it opens, an abort of `signal` closes it and rejects with the reason. */
export function openConnection(
  socket: SocketLike,
  signal: AbortSignal,
  { onMessage, onEnd }: ConnectionEvents = {},
): Promise<Connection> {
  const listeners = new Set<OnNotification>();
  const calls = createCalls(socket);
  return new Promise((resolve, reject) => {
    let isOpen = false;
    let hasEnded = false;
    const end = (reason: Error): void => {
      if (hasEnded) return;
      hasEnded = true;
      signal.removeEventListener('abort', onAbort);
      socket.close(CLOSE.normal);
      if (isOpen) onEnd?.(reason);
      calls.end(reason);
      reject(reason);
    };
    const onAbort = (): void => end(signal.reason);
    socket.addEventListener('open', () => {
      if (hasEnded) return;
      isOpen = true;
      signal.removeEventListener('abort', onAbort);
      resolve({
        call: calls.send,
        listen(onNotification) {
          listeners.add(onNotification);
          return () => void listeners.delete(onNotification);
        },
        close: () => socket.close(CLOSE.normal),
      });
    });
    socket.addEventListener('error', () => end(networkError('the WebSocket failed')));
    socket.addEventListener('close', ({ code }) =>
      end(networkError(`the WebSocket was closed (${code ?? CLOSE.abnormal})`)),
    );
    socket.addEventListener('message', ({ data }) => {
      if (typeof data !== 'string' || hasEnded) return;
      onMessage?.();
      try {
        const message = toMessage(data);
        if ('response' in message) calls.settle(message.response);
        else for (const listener of [...listeners]) listener(message, data.length);
      } catch (error) {
        end(error instanceof Error ? error : networkError('a message could not be read', error));
      }
    });
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
}

/** The calls of a socket that have no answer yet, by id. */
function createCalls(socket: SocketLike) {
  const pending = new Map<number, { settle(response: unknown): void; fail(reason: unknown): void }>();
  let lastId = 0;
  let ended: Error | undefined;
  return {
    send({ method, params, signal }: Call): Promise<unknown> {
      if (ended !== undefined) return Promise.reject(ended);
      if (signal.aborted) return Promise.reject(signal.reason);
      const id = ++lastId;
      return new Promise((resolve, reject) => {
        const leave = (): void => {
          pending.delete(id);
          signal.removeEventListener('abort', onAbort);
        };
        const fail = (reason: unknown): void => {
          leave();
          reject(reason);
        };
        const onAbort = (): void => fail(signal.reason);
        const settle = (response: unknown): void => {
          try {
            resolve(toResult(response));
          } catch (error) {
            reject(error);
          }
          leave();
        };
        pending.set(id, { settle, fail });
        signal.addEventListener('abort', onAbort, { once: true });
        socket.send(JSON.stringify({ jsonrpc: '2.0', method, params, id }));
      });
    },
    settle(response: unknown): void {
      if (isObject(response) && typeof response.id === 'number') pending.get(response.id)?.settle(response);
    },
    end(reason: Error): void {
      ended = reason;
      for (const call of [...pending.values()]) call.fail(reason);
    },
  };
}

/**
 * Sends a call, yields the notifications that are received until its answer, and returns its result. For a reader that
 * is too slow it throws `network`, so that memory is bounded; a turn can be resumed.
 */
export async function* streamCall(connection: Connection, call: Call): AsyncGenerator<Notification, unknown, void> {
  const waiting: { readonly notification: Notification; readonly chars: number }[] = [];
  let waitingChars = 0;
  let outcome: { readonly result: unknown } | { readonly error: unknown } | undefined;
  let wake = (): void => {};
  const finish = (how: NonNullable<typeof outcome>): void => {
    outcome ??= how;
    wake();
  };
  const stopListening = connection.listen((notification, chars) => {
    waiting.push({ notification, chars });
    waitingChars += chars;
    if (waitingChars > WAITING_CHARS_MAX) {
      stopListening();
      finish({ error: networkError('the reader is too slow for the WebSocket') });
    }
    wake();
  });
  connection.call(call).then(
    (result) => finish({ result }),
    (error: unknown) => finish({ error }),
  );
  try {
    for (;;) {
      const next = waiting.shift();
      if (next !== undefined) {
        waitingChars -= next.chars;
        yield next.notification;
      } else if (outcome === undefined) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      } else if ('error' in outcome) throw outcome.error;
      else return outcome.result;
    }
  } finally {
    stopListening();
  }
}
