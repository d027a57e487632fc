// Numbered messages over successive WebSockets: what one side sends arrives at the other once and in order, until the
// link is over. Everything is kept until it is acknowledged; a new WebSocket begins with what the other side has not
// received. Control messages are sent at once; data only while the transport and the other side keep up.
import type { WebSocket } from 'ws';
import { RpcError } from '../../errors.ts';
import { CLOSE } from '../../protocol.ts';
import { KeptMessages, type Message } from './kept-messages.ts';
import type { LinkTimes } from './link.ts';
import {
  chargeOf,
  HEADER_BYTES,
  isCount,
  isObject,
  type JsonObject,
  LINK_METHODS,
  parseJson,
  Violation,
  withSeq,
} from './wire.ts';

/** Data that was sent and not acknowledged: bounds what is kept, and how much a control message has to wait behind. */
const WINDOW_BYTES = 1 << 20;
/** Received bytes after which they are acknowledged. */
const ACK_BYTES = 128 << 10;
/** Data that the transport has not written yet. */
const TRANSPORT_BYTES = 128 << 10;
/** Control messages that are kept. A side that sends more than the other acknowledges ends the link. */
const CONTROL_KEPT_BYTES_MAX = 16 << 20;
/** Above it, requests are refused. */
const CONTROL_BUSY_BYTES = 8 << 20;
/** Closed with this code, a WebSocket has been replaced by another one of the same link. */
const REPLACED = 4_001;
/** The other side has ended the link, or refused what was sent; any other code is a cut. */
const OVER_CODES: ReadonlySet<number> = new Set([CLOSE.normal, 1002, 1003, 1007, CLOSE.policy, 1009]);
const REASON_BYTES_MAX = 120;

/** What handles a message throws Violation when the other side has broken the protocol. */
export interface ChannelOwner {
  /** A control message in its turn. */
  control(message: JsonObject): void;
  /** A data frame in its turn. `payload` is a view of a larger buffer. */
  data(stream: number, payload: Buffer): void;
  /** Data may be sent again. */
  writable(): void;
  /** The WebSocket is gone; the link can be resumed until it is over. */
  cut(): void;
  over(error: RpcError): void;
}

export class Channel {
  readonly #owner: ChannelOwner;
  readonly #times: LinkTimes;
  readonly #timer: NodeJS.Timeout;
  #socket: WebSocket | undefined;
  #over: RpcError | undefined;
  readonly #kept = new KeptMessages();
  /** The number of the message that is received next. */
  #received = 0;
  #unackedBytes = 0;
  #silentMs = 0;
  #idleMs = 0;
  #tickedMs = performance.now();

  constructor(owner: ChannelOwner, times: LinkTimes) {
    this.#owner = owner;
    this.#times = times;
    this.#timer = setInterval(() => this.#tick(), times.tickMs);
  }

  get connected(): boolean {
    return this.#socket !== undefined;
  }

  /** Why the link is over. */
  get ended(): RpcError | undefined {
    return this.#over;
  }

  /** How long nothing has been received, in milliseconds of this process's running time. */
  get silentMs(): number {
    return this.#silentMs;
  }

  get received(): number {
    return this.#received;
  }

  /** Whether so much is kept that nothing should be added that can be refused. */
  get busy(): boolean {
    return this.#kept.controlBytes > CONTROL_BUSY_BYTES;
  }

  get canSendData(): boolean {
    const socket = this.#socket;
    return socket !== undefined && this.#kept.dataBytes < WINDOW_BYTES && socket.bufferedAmount < TRANSPORT_BYTES;
  }

  /** `text` as `toControlText` returns it. */
  sendControl(text: string): void {
    if (this.#over !== undefined) return;
    const message = withSeq(text, this.#kept.next);
    this.#kept.add(message);
    if (this.#kept.controlBytes > CONTROL_KEPT_BYTES_MAX) this.end('too much is not acknowledged', CLOSE.policy);
    else this.#send(message);
  }

  /** `frame` begins with HEADER_BYTES that are filled here. Only while `canSendData`. */
  sendData(stream: number, frame: Buffer): void {
    frame.writeUInt32BE(stream, 0);
    frame.writeUInt32BE(this.#kept.next >>> 0, 4);
    this.#kept.add(frame);
    this.#send(frame);
  }

  /** Whether the other side can have received so many messages, and the rest is still here. */
  canResume(peerReceived: number): boolean {
    return this.#kept.canFollow(peerReceived);
  }

  /**
   * Continues on a WebSocket whose first messages have been exchanged, and sends what the other side has not received.
   * To be called before the next message of the socket is read.
   */
  attach(socket: WebSocket, peerReceived: number): void {
    const old = this.#socket;
    this.#socket = socket;
    this.#silentMs = 0;
    socket.on('message', (data: Buffer, isBinary: boolean) => {
      if (this.#socket === socket) this.#receive(data, isBinary);
    });
    socket.on('error', (error: Error & { code?: unknown }) => {
      const isViolation = typeof error.code === 'string' && error.code.startsWith('WS_ERR_');
      if (isViolation && this.#socket === socket) this.end('a message of the WebSocket is malformed', CLOSE.policy);
    });
    socket.on('close', (code: number, reason: Buffer) => {
      if (this.#socket !== socket) return;
      this.#socket = undefined;
      if (OVER_CODES.has(code)) this.end('the other side has ended it', undefined, `${code} ${reason.toString()}`);
      else this.#owner.cut();
    });
    old?.close(REPLACED);
    this.#kept.acknowledge(peerReceived);
    for (const message of this.#kept) this.#send(message);
    this.#owner.writable();
  }

  /**
   * The link is over. `code`: the other side gets it, with the reason. `detail`: text of the other side, for the log
   * only. Resolves when the WebSocket is closed.
   */
  async end(reason: string, code?: number, detail?: string): Promise<void> {
    const socket = this.#socket;
    if (this.#over === undefined) {
      this.#over = new RpcError('unavailable', {
        message: `The connection between the gateway and the sandbox has ended: ${reason}`,
        ...(detail !== undefined && { cause: new Error(detail) }),
      });
      clearInterval(this.#timer);
      this.#socket = undefined;
      this.#kept.clear();
      if (code === undefined) socket?.terminate();
      else socket?.close(code, Buffer.from(reason).subarray(0, REASON_BYTES_MAX).toString());
      this.#owner.over(this.#over);
    }
    if (socket !== undefined && socket.readyState !== socket.CLOSED) {
      await new Promise((resolve) => socket.once('close', resolve));
    }
  }

  #send(message: Message): void {
    const socket = this.#socket;
    if (socket === undefined || socket.readyState !== socket.OPEN) return;
    this.#idleMs = 0;
    if (typeof message === 'string') socket.send(message);
    else socket.send(message, () => this.#owner.writable());
  }

  #receive(bytes: Buffer, isBinary: boolean): void {
    this.#silentMs = 0;
    this.#unackedBytes += chargeOf(bytes.length);
    try {
      if (isBinary) this.#receiveData(bytes);
      else this.#receiveControl(parseJson(bytes));
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      void this.end(error.message, CLOSE.policy);
    }
    if (this.#unackedBytes >= ACK_BYTES) this.#acknowledge();
  }

  #receiveData(bytes: Buffer): void {
    if (bytes.length < HEADER_BYTES) throw new Violation('a data frame has no header');
    if (!this.#isNext((bytes.readUInt32BE(4) - this.#received) | 0)) return;
    this.#owner.data(bytes.readUInt32BE(0), bytes.subarray(HEADER_BYTES));
  }

  #receiveControl(message: unknown): void {
    if (!isObject(message)) throw new Violation('a control message is not a JSON object');
    if (message.method === LINK_METHODS.ack) {
      const received = isObject(message.params) ? message.params.received : undefined;
      if (!isCount(received) || !this.#kept.acknowledge(received)) throw new Violation('an acknowledgement is wrong');
      this.#owner.writable();
    } else if (!isCount(message.seq)) throw new Violation('a control message has no number');
    else if (this.#isNext(message.seq - this.#received)) this.#owner.control(message);
  }

  /** What was received before comes again after a cut; what comes too early shows a fault of the other side. */
  #isNext(ahead: number): boolean {
    if (ahead > 0) throw new Violation('a message is missing');
    if (ahead === 0) this.#received++;
    return ahead === 0;
  }

  #acknowledge(): void {
    this.#unackedBytes = 0;
    this.#send(`{"jsonrpc":"2.0","method":"${LINK_METHODS.ack}","params":{"received":${this.#received}}}`);
  }

  #tick(): void {
    const { tickMs, pingMs, silenceMs, overMs } = this.#times;
    const nowMs = performance.now();
    // A process that did not run has not listened: what it missed waits in its socket.
    const passedMs = Math.min(nowMs - this.#tickedMs, 2 * tickMs);
    this.#tickedMs = nowMs;
    this.#silentMs += passedMs;
    this.#idleMs += passedMs;
    if (this.#silentMs >= overMs) void this.end(`the other side was silent for ${overMs / 1_000} s`);
    else if (this.#silentMs >= silenceMs) this.#socket?.terminate();
    else if (this.#idleMs >= pingMs) this.#acknowledge();
  }
}
