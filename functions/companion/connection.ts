// One socket: messages in, responses and notifications out, in order. It bounds what one peer can hold of this process
// (calls, bytes, time) and ends what belongs to the connection when the connection ends. A class, and lazy, because
// most of many connections are idle.
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import type { Caller } from '../../shared/auth/keys/keys.ts';
import { RpcError } from '../../shared/errors.ts';
import type { Gateway } from '../../shared/gateway.ts';
import { CLOSE, NOTIFICATIONS } from '../../shared/protocol.ts';
import { MESSAGE_BYTES_MAX } from '../../shared/rpc/answers.ts';
import { aroundShared, notificationText, type SharedParams } from '../../shared/rpc/notification.ts';
import type { Services } from '../../shared/services.ts';
import { bindTrace } from '../../shared/trace.ts';
import { CALLS_MAX, CallQueue } from './call-queue.ts';
import { Calls } from './calls.ts';
import { SendBuffer } from './send-buffer.ts';

/**
 * A planned close is announced with the time after which to reconnect: this, and a random part that spreads a crowd of
 * clients.
 */
const RECONNECT_MS = 250;
const RECONNECT_SPREAD_MS = 1_500;
/** Below it, copying what many sockets send costs less than a message in fragments. */
const SHARED_BYTES_MIN = 16 << 10;

export interface ConnectionTimes {
  /** Milliseconds between pings; a peer that sends nothing for two of them counts as disconnected. */
  readonly pingMs: number;
  /** Age at which a connection is closed with 1012, below the platform's own cut of 60 minutes. */
  readonly ageMaxMs: number;
  /** How long calls in flight may take once the end of an old connection is announced. */
  readonly announceCloseMs: number;
  /** How long a peer may leave far too much unread. */
  readonly stuckMs: number;
}

/** What all connections of a server have in common. */
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
  #leaveAtMs: number | undefined;
  #pauses = 0;

  /** `stream` is the transport below `socket`; `nowMs` is monotonic. */
  constructor(host: ConnectionHost, socket: WebSocket, stream: Duplex, caller: Caller, nowMs: number) {
    this.#host = host;
    this.#socket = socket;
    this.#sendBuffer = new SendBuffer(socket, stream, this);
    this.#caller = caller;
    this.#openedMs = nowMs;
    this.#pingedMs = nowMs;
    const onLife = (): void => {
      this.#isAlive = true;
    };
    socket.on('ping', onLife);
    socket.on('pong', onLife);
    socket.on(
      'message',
      bindTrace((data, isBinary) => this.#receive(data, isBinary)),
    );
    // A malformed frame or a reset; ws closes the socket with the right code.
    socket.on('error', ignore);
    socket.once('close', () => {
      this.#finish();
      host.closed(this);
    });
  }

  get caller(): Caller {
    return this.#caller;
  }

  /** The current state of the key: changed scopes end the connection, changed limits apply to it. */
  refresh(now: Caller): void {
    const { scopes } = this.#caller;
    const isSame = now.scopes.size === scopes.size && [...now.scopes].every((scope) => scopes.has(scope));
    if (isSame) this.#caller = now;
    else this.close(CLOSE.policy, 'the scopes of the key have changed');
  }

  /** Sends pings, and ends connections that are too old or silent. To be called every second; `nowMs` is monotonic. */
  tick(nowMs: number): void {
    const { times } = this.#host;
    if (this.#sendBuffer.isStuck(nowMs, times.stuckMs)) this.close(CLOSE.tryLater, 'too much is unread');
    else if (this.#leaveAtMs !== undefined && nowMs >= this.#leaveAtMs) this.close(CLOSE.restart, 'reconnect');
    else if (nowMs - this.#openedMs >= times.ageMaxMs) this.announceClose('max_age', nowMs + times.announceCloseMs);
    if (nowMs - this.#pingedMs < times.pingMs) return;
    this.#pingedMs = nowMs;
    const hasMoved = this.#sendBuffer.hasMoved();
    if (!this.#isAlive && !hasMoved) {
      this.destroy();
      return;
    }
    this.#isAlive = false;
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.ping();
  }

  /** Announces a planned close; closes with 1012 once nothing is in flight, at the latest at `untilMs`. */
  announceClose(reason: 'shutdown' | 'max_age', untilMs: number): void {
    if (this.#leaveAtMs !== undefined) return;
    this.#leaveAtMs = untilMs;
    const retryAfterMs = RECONNECT_MS + Math.round(Math.random() * RECONNECT_SPREAD_MS);
    this.notify(NOTIFICATIONS.reconnect, { reason, retry_after_ms: retryAfterMs });
    this.#leaveWhenIdle();
  }

  close(code: number, reason: string): void {
    this.#socket.close(code, reason);
    // The answer to the close is to be read, whatever kept us from reading; ws itself bounds the wait.
    this.#socket.resume();
    this.#finish();
  }

  /** Ends it without a closing handshake. */
  destroy(): void {
    this.#socket.terminate();
  }

  /**
   * Reading stops while the peer does not read (its responses would pile up), or while too many of its calls are being
   * refused.
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
    this.#leaveWhenIdle();
  }

  #receive(data: Buffer | ArrayBuffer | Buffer[], isBinary: boolean): void {
    this.#isAlive = true;
    if (this.#leaveAtMs !== undefined) void this.#answer(toBuffer(data), isBinary, leaving());
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

  #leaveWhenIdle(): void {
    if (this.#leaveAtMs === undefined) return;
    if ((this.#calls?.size ?? 0) === 0 && this.#callQueue?.isEmpty !== false) this.close(CLOSE.restart, 'reconnect');
  }

  /** Nothing more is received or sent: subscriptions and calls of the connection end. */
  #finish(): void {
    this.#callQueue?.stop();
    this.#calls?.end();
    this.#sendBuffer.stop();
  }
}

/** One function for all sockets. */
function ignore(): void {}

function tooMany(): RpcError {
  return new RpcError('unavailable', {
    message: `at most ${CALLS_MAX} calls may be in flight on a connection, and a bounded number wait`,
    data: { limit: CALLS_MAX },
    retryAfterMs: 1_000,
  });
}

function leaving(): RpcError {
  return new RpcError('unavailable', {
    message: 'this connection is being closed: reconnect',
    retryAfterMs: RECONNECT_MS,
  });
}

/** ws hands over one Buffer for its default binaryType, whatever its types allow for. */
function toBuffer(data: Buffer | ArrayBuffer | Buffer[]): Buffer {
  if (Buffer.isBuffer(data)) return data;
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
}
