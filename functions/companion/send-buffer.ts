// Limits the unsent bytes of one socket. Above PAUSE_BYTES, senders wait and messages of the peer are not read. With
// more than STUCK_BYTES for too long, the peer counts as too slow. Messages are never dropped or reordered. It is a
// class, to save memory for thousands of idle sockets.
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';

/** With more unsent bytes, senders wait. */
const PAUSE_BYTES = 256 << 10;
/** With more unsent bytes for too long, the peer is too slow. */
const STUCK_BYTES = 1 << 20;

/** Called when senders have to wait, and when they may continue. */
export interface SendBufferOwner {
  pause(): void;
  resume(): void;
}

export class SendBuffer {
  readonly #socket: WebSocket;
  readonly #stream: Duplex;
  readonly #owner: SendBufferOwner;
  #waiting: PromiseWithResolvers<void> | undefined;
  #end: PromiseWithResolvers<void> | undefined;
  #stuckSinceMs: number | undefined;
  #backlog = 0;
  #stopped = false;
  #corked = false;

  /**
   * `stream` is the transport below `socket`. It holds all unsent bytes, because ws queues none without compression.
   */
  constructor(socket: WebSocket, stream: Duplex, owner: SendBufferOwner) {
    this.#socket = socket;
    this.#stream = stream;
    this.#owner = owner;
  }

  /**
   * Sends a message, text or bytes. A returned promise resolves when the sender may continue, or when the socket has
   * ended. While the socket is being closed, nothing is sent and every sender waits, because a loop of sends without a
   * wait would block the event loop.
   */
  send(message: string | Uint8Array): void | Promise<void> {
    return this.#write((socket) => socket.send(message));
  }

  /**
   * Like `send`, for a text message whose middle part is shared with other sockets. It is sent in three fragments, so
   * that the middle is not copied.
   */
  sendShared(head: string, middle: Buffer, tail: string): void | Promise<void> {
    return this.#write((socket) => {
      socket.send(head, { binary: false, fin: false });
      socket.send(middle, { binary: false, fin: false });
      socket.send(tail, { binary: false, fin: true });
    });
  }

  #write(write: (socket: WebSocket) => void): void | Promise<void> {
    if (this.#socket.readyState !== this.#socket.OPEN) {
      if (this.#stopped) return;
      this.#end ??= Promise.withResolvers();
      return this.#end.promise;
    }
    this.#cork();
    write(this.#socket);
    if (this.#stream.writableLength <= PAUSE_BYTES) return;
    if (this.#waiting === undefined) {
      this.#waiting = Promise.withResolvers();
      this.#backlog = this.#stream.writableLength;
      this.#stream.once('drain', () => this.#continue());
      this.#owner.pause();
    }
    return this.#waiting.promise;
  }

  /** Whether more than STUCK_BYTES have been unsent for `stuckMs`. `nowMs` is monotonic. */
  isStuck(nowMs: number, stuckMs: number): boolean {
    if (this.#stream.writableLength < STUCK_BYTES) this.#stuckSinceMs = undefined;
    else this.#stuckSinceMs ??= nowMs;
    return this.#stuckSinceMs !== undefined && nowMs - this.#stuckSinceMs >= stuckMs;
  }

  /** Whether the peer has received bytes of a backlog since the last call. */
  hasProgress(): boolean {
    const before = this.#backlog;
    this.#backlog = this.#stream.writableLength;
    return this.#waiting !== undefined && this.#backlog < before;
  }

  /** Lets waiting senders continue; call it when the socket has ended. */
  stop(): void {
    this.#stopped = true;
    this.#end?.resolve();
    this.#continue();
  }

  #continue(): void {
    if (this.#waiting === undefined) return;
    this.#waiting.resolve();
    this.#waiting = undefined;
    this.#owner.resume();
  }

  /**
   * Messages that are sent in the same iteration of the event loop are written together, for example the responses
   * after one commit of the limiter.
   */
  #cork(): void {
    if (this.#corked) return;
    this.#corked = true;
    this.#stream.cork();
    process.nextTick(uncork, this);
  }

  static uncork(buffer: SendBuffer): void {
    buffer.#corked = false;
    buffer.#stream.uncork();
  }
}

const { uncork } = SendBuffer;
