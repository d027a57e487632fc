// One attempt of the gateway side to connect: opens a WebSocket and exchanges the first messages.
import type { ClientRequest, IncomingMessage } from 'node:http';
import { WebSocket } from 'ws';
import { LINK_PATH } from '../link.ts';
import {
  type ClientHello,
  helloText,
  type Refusal,
  readFirst,
  type ServerHello,
  SOCKET_OPTIONS,
  serverHello,
} from './hello.ts';

/** Messages of this side, because the text of the other side is for the log only. */
const REFUSALS: Record<Refusal['reason'], string> = {
  protocol: 'and this gateway have no protocol version in common',
  unknown_link: 'no longer has this link',
  full: 'serves too many links',
};

/** Why an attempt failed; the message is safe to show to callers. */
export class FailedAttempt extends Error {
  /**
   * After `credential` and `protocol`, another attempt would fail too. After `unknown_link`, the link cannot be
   * resumed.
   */
  readonly reason: 'unreachable' | 'credential' | 'protocol' | 'unknown_link' | 'full';

  constructor(reason: FailedAttempt['reason'], message: string, cause?: unknown) {
    super(message, { cause });
    this.reason = reason;
  }
}

export interface Attempt {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Called when the WebSocket is open. */
  readonly hello: () => ClientHello;
  /** Deadline of the whole attempt, with the first messages. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Called with the first message of the server, before the next message is emitted. */
  readonly onHello: (socket: WebSocket, hello: ServerHello) => void;
}

/** Resolves after `onHello`. Rejects with FailedAttempt. */
export function openSocket({ url, headers, hello, timeoutMs, signal, onHello }: Attempt): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url.replace(/\/$/, '') + LINK_PATH, {
      ...SOCKET_OPTIONS,
      headers,
      handshakeTimeout: timeoutMs,
      followRedirects: false,
    });
    const fail = (failure: FailedAttempt): void => {
      signal.removeEventListener('abort', onAbort);
      reject(failure);
      socket.terminate();
    };
    const unreachable = (cause: unknown): void =>
      fail(new FailedAttempt('unreachable', 'The sandbox service cannot be reached', cause));
    const onAbort = (): void => unreachable(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) return onAbort();

    socket.on('error', unreachable);
    socket.on('close', (code) => unreachable(new Error(`closed with ${code} before the first message`)));
    socket.on('unexpected-response', (request: ClientRequest, response: IncomingMessage) => {
      request.destroy();
      const { statusCode } = response;
      if (statusCode !== 401 && statusCode !== 403) return unreachable(new Error(`answered with ${statusCode}`));
      fail(new FailedAttempt('credential', 'The sandbox service refuses the credential of the gateway'));
    });
    socket.on('open', () => socket.send(helloText(hello())));
    readFirst(socket, timeoutMs, (message) => {
      const first = serverHello.safeParse(message);
      if (!first.success) return unreachable(new Error('the first message is malformed'));
      if (first.data.method === 'link.refused') {
        const { reason, message: detail } = first.data.params;
        return fail(new FailedAttempt(reason, `The sandbox service ${REFUSALS[reason]}`, new Error(detail)));
      }
      signal.removeEventListener('abort', onAbort);
      socket.removeAllListeners('close').removeAllListeners('error');
      onHello(socket, first.data.params);
      resolve();
    });
  });
}
