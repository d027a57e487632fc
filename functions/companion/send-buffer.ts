// The unsent bytes of one socket. Above PAUSE_BYTES its sources wait and its messages are not read; above STUCK_BYTES
// for a long time, the peer is too slow. Never drops or reorders messages. A class, because thousands of idle sockets
// each have one.
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';

/** Unsent bytes above which sources wait. */
const PAUSE_BYTES = 256 << 10;
/** Unsent bytes at which a peer is too slow, when it stays there. */
const STUCK_BYTES = 1 << 20;

/** Called when sources begin to wait, and when they continue. */
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

  /** `stream` is the transport below `socket`: ws itself queues nothing when it does not compress. */
  constructor(socket: WebSocket, stream: Duplex, owner: SendBufferOwner) {
    this.#socket = socket;
    this.#stream = stream;
    this.#owner = owner;
  }

  /**
   * Sends a message, text or bytes; the promise, where there is one, resolves when a source may go on, or when the
   * socket has ended. While it is being closed nothing is sent and every source waits: one that did not would spin.
   */
  send(message: string | Uint8Array): void | Promise<void> {
    return this.#write((socket) => socket.send(message));
  }

  /**
   * As `send`, for one text message whose middle is shared with other sockets: as three fragments, so that it is not
   * copied.
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
      this.#stream.once('drain', () => this.#goOn());
      this.#owner.pause();
    }
    return this.#waiting.promise;
  }

  /** Too much has been unsent for `stuckMs`. `nowMs` is monotonic. */
  isStuck(nowMs: number, stuckMs: number): boolean {
    if (this.#stream.writableLength < STUCK_BYTES) this.#stuckSinceMs = undefined;
    else this.#stuckSinceMs ??= nowMs;
    return this.#stuckSinceMs !== undefined && nowMs - this.#stuckSinceMs >= stuckMs;
  }

  /** Whether the peer took anything of a backlog since the last question. */
  hasMoved(): boolean {
    const before = this.#backlog;
    this.#backlog = this.#stream.writableLength;
    return this.#waiting !== undefined && this.#backlog < before;
  }

  /** The socket has ended: waiting sources continue. */
  stop(): void {
    this.#stopped = true;
    this.#end?.resolve();
    this.#goOn();
  }

  #goOn(): void {
    if (this.#waiting === undefined) return;
    this.#waiting.resolve();
    this.#waiting = undefined;
    this.#owner.resume();
  }

  /** Answers that become ready together, as those of one commit of the limiter do, leave in one write. */
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
