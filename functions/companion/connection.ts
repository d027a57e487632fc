// One WebSocket: receives messages, and sends responses and notifications in order. Bounds the calls, the bytes and the
// time that one peer can use, and ends calls and subscriptions with the connection. It is a class that creates its
// parts on demand, to save memory, because most connections are idle.
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import type { Caller } from '../../shared/auth/keys/keys.ts';
import { RpcError } from '../../shared/errors.ts';
import type { Gateway } from '../../shared/gateway.ts';
import { CLOSE, NOTIFICATIONS } from '../../shared/protocol.ts';
import { MESSAGE_BYTES_MAX } from '../../shared/rpc/answers.ts';
import { aroundShared, notificationText, type SharedParams } from '../../shared/rpc/notification.ts';
import type { Services } from '../../shared/services.ts';
import { bindTrace } from '../../shared/telemetry/trace.ts';
import { CALLS_MAX, CallQueue } from './call-queue.ts';
import { Calls } from './calls.ts';
import { SendBuffer } from './send-buffer.ts';

/**
 * A planned close is announced with a delay for the reconnect: RECONNECT_MS plus a random part, so that many clients do
 * not reconnect at the same moment.
 */
const RECONNECT_MS = 250;
const RECONNECT_SPREAD_MS = 1_500;
/** Below this size, copying a shared message costs less than sending it in fragments. */
const SHARED_BYTES_MIN = 16 << 10;

export interface ConnectionTimes {
  /** Milliseconds between pings; a peer that sends nothing for two of them counts as disconnected. */
  readonly pingMs: number;
  /** Age at which a connection is closed with 1012; below the 60 minutes after which Cloud Run ends it. */
  readonly ageMaxMs: number;
  /** How long calls in flight may run after the close of an old connection was announced. */
  readonly announceCloseMs: number;
  /** How long a peer may leave too many bytes unread. */
  readonly stuckMs: number;
}

/** What all connections of a server share. */
export interface ConnectionHost {
  readonly services: Services;
  readonly gateway: Gateway;
  readonly times: ConnectionTimes;
  closed(connection: SocketConnection): void;
}

export class SocketConnection {
  readonly #socket: WebSocket;
  readonly #host: ConnectionHost;
  readonly #sendBuffer: SendBuffer;
  readonly #openedMs: number;
  #caller: Caller;
  #callQueue: CallQueue | undefined;
  #calls: Calls | undefined;
  #pingedMs: number;
  #isAlive = true;
  #closeAtMs: number | undefined;
  #pauses = 0;

  /** `stream` is the transport below `socket`; `nowMs` is monotonic. */
  constructor(host: ConnectionHost, socket: WebSocket, stream: Duplex, caller: Caller, nowMs: number) {
    this.#host = host;
    this.#socket = socket;
    this.#sendBuffer = new SendBuffer(socket, stream, this);
    this.#caller = caller;
    this.#openedMs = nowMs;
    this.#pingedMs = nowMs;
    const markAlive = (): void => {
      this.#isAlive = true;
    };
    socket.on('ping', markAlive);
    socket.on('pong', markAlive);
    socket.on(
      'message',
      bindTrace((data, isBinary) => this.#receive(data, isBinary)),
    );
    // The error is an invalid frame or a reset; ws closes the socket with the right code.
    socket.on('error', ignore);
    socket.once('close', () => {
      this.#finish();
      host.closed(this);
    });
  }

  get caller(): Caller {
    return this.#caller;
  }

  /** Applies the current state of the key: changed scopes end the connection, changed limits are used from now on. */
  refresh(now: Caller): void {
    const { scopes } = this.#caller;
    const isSame = now.scopes.size === scopes.size && [...now.scopes].every((scope) => scopes.has(scope));
    if (isSame) this.#caller = now;
    else this.close(CLOSE.policy, 'the scopes of the key have changed');
  }

  /**
   * Sends pings, and closes the connection if it is too old or silent. Must be called every second; `nowMs` is
   * monotonic.
   */
  tick(nowMs: number): void {
    const { times } = this.#host;
    if (this.#sendBuffer.isStuck(nowMs, times.stuckMs))
      this.close(CLOSE.tryLater, 'the client has left too many bytes unread');
    else if (this.#closeAtMs !== undefined && nowMs >= this.#closeAtMs) this.close(CLOSE.restart, 'reconnect');
    else if (nowMs - this.#openedMs >= times.ageMaxMs) this.announceClose('max_age', nowMs + times.announceCloseMs);
    if (nowMs - this.#pingedMs < times.pingMs) return;
    this.#pingedMs = nowMs;
    const hasProgress = this.#sendBuffer.hasProgress();
    if (!this.#isAlive && !hasProgress) {
      this.destroy();
      return;
    }
    this.#isAlive = false;
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.ping();
  }

  /** Announces a planned close; closes with 1012 once nothing is in flight, at the latest at `untilMs`. */
  announceClose(reason: 'shutdown' | 'max_age', untilMs: number): void {
    if (this.#closeAtMs !== undefined) return;
    this.#closeAtMs = untilMs;
    const retryAfterMs = RECONNECT_MS + Math.round(Math.random() * RECONNECT_SPREAD_MS);
    this.notify(NOTIFICATIONS.reconnect, { reason, retry_after_ms: retryAfterMs });
    this.#closeWhenIdle();
  }

  close(code: number, reason: string): void {
    this.#socket.close(code, reason);
    // Resumes reading, because the close frame of the peer must be received; ws bounds the wait for it.
    this.#socket.resume();
    this.#finish();
  }

  /** Ends the connection without a closing handshake. */
  destroy(): void {
    this.#socket.terminate();
  }

  /**
   * Stops reading while the peer does not read, because its responses would accumulate, or while too many of its calls
   * are being rejected.
   */
  pause(): void {
    if (++this.#pauses === 1) this.#socket.pause();
  }

  resume(): void {
    if (--this.#pauses === 0) this.#socket.resume();
  }

  send(message: string | Uint8Array): void | Promise<void> {
    return this.#sendBuffer.send(message);
  }

  notify(method: string, params: object): void | Promise<void> {
    return this.#sendBuffer.send(notificationText(method, params, MESSAGE_BYTES_MAX));
  }

  notifyShared(method: string, params: object, { bytes, brief }: SharedParams): void | Promise<void> {
    const { head, tail } = aroundShared(method, params);
    const size = head.length + bytes.length + tail.length;
    if (size > MESSAGE_BYTES_MAX) return this.#sendBuffer.send(`${head}${brief}${tail}`);
    if (bytes.length < SHARED_BYTES_MIN) return this.#sendBuffer.send(`${head}${bytes}${tail}`);
    return this.#sendBuffer.sendShared(head, bytes, tail);
  }

  handle(message: Buffer, isBinary: boolean): Promise<void> {
    return this.#answer(message, isBinary);
  }

  refuse(message: Buffer, isBinary: boolean): Promise<void> {
    return this.#answer(message, isBinary, tooMany());
  }

  settled(): void {
    this.#closeWhenIdle();
  }

  #receive(data: Buffer | ArrayBuffer | Buffer[], isBinary: boolean): void {
    this.#isAlive = true;
    if (this.#closeAtMs !== undefined) void this.#answer(toBuffer(data), isBinary, closing());
    else {
      this.#callQueue ??= new CallQueue(this);
      this.#callQueue.add(toBuffer(data), isBinary);
    }
  }

  #answer(message: Buffer, isBinary: boolean, refuseWith?: RpcError): Promise<void> {
    const { services, gateway } = this.#host;
    this.#calls ??= new Calls(services, gateway, this);
    return this.#calls.answer(message, isBinary, refuseWith);
  }

  #closeWhenIdle(): void {
    if (this.#closeAtMs === undefined) return;
    if ((this.#calls?.size ?? 0) === 0 && this.#callQueue?.isEmpty !== false) this.close(CLOSE.restart, 'reconnect');
  }

  /** Ends the calls and subscriptions of the connection; nothing is received or sent any more. */
  #finish(): void {
    this.#callQueue?.stop();
    this.#calls?.end();
    this.#sendBuffer.stop();
  }
}

/** One function is shared by all sockets, to save memory. */
function ignore(): void {}

function tooMany(): RpcError {
  return new RpcError('unavailable', {
    message: `at most ${CALLS_MAX} calls may be in flight on a connection, and a bounded number wait`,
    data: { limit: CALLS_MAX },
    retryAfterMs: 1_000,
  });
}

function closing(): RpcError {
  return new RpcError('unavailable', {
    message: 'this connection is being closed: reconnect',
    retryAfterMs: RECONNECT_MS,
  });
}

/** With the default binaryType, ws always passes one Buffer, although its types allow more. */
function toBuffer(data: Buffer | ArrayBuffer | Buffer[]): Buffer {
  if (Buffer.isBuffer(data)) return data;
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
}
