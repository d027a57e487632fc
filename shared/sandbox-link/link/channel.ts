// Sends numbered messages over successive WebSockets, so that each message arrives once and in order until the link is
// over. Messages are kept until the other side acknowledges them; a new WebSocket starts with those that it has not
// received. Control messages are sent immediately. Data is sent only while the transport and the other side keep up.

import type { WebSocket } from 'ws';
import { RpcError } from '../../errors.ts';
import { isObject, type JsonObject } from '../../json/json-object.ts';
import { CLOSE } from '../../protocol.ts';
import { KeptMessages, type Message } from './kept-messages.ts';
import type { LinkTimes } from './link.ts';
import { chargeOf, HEADER_BYTES, isCount, LINK_METHODS, parseJson, Violation, withSeq } from './wire.ts';

/** Maximum unacknowledged data. It bounds the kept data, and the data that a control message has to wait for. */
const WINDOW_BYTES = 1 << 20;
/** Received messages are acknowledged after this many bytes. */
const ACK_BYTES = 128 << 10;
/** Maximum data that the transport has not written yet. */
const TRANSPORT_BYTES = 128 << 10;
/** Maximum bytes of kept control messages. With more unacknowledged, the link ends. */
const CONTROL_KEPT_BYTES_MAX = 16 << 20;
/** With more kept control messages, new requests are rejected. */
const CONTROL_BUSY_BYTES = 8 << 20;
/** Close code of a WebSocket that another one of the same link replaces. */
const REPLACED = 4_001;
/**
 * Close codes by which the other side ends the link or rejects a message. After any other code, the link can be
 * resumed.
 */
const OVER_CODES: ReadonlySet<number> = new Set([CLOSE.normal, 1002, 1003, 1007, CLOSE.policy, 1009]);
const REASON_BYTES_MAX = 120;

/**
 * Receives messages and events of the channel. `control` and `data` throw Violation when the other side has violated
 * the protocol.
 */
export interface ChannelOwner {
  /** Called for each control message, in order. */
  control(message: JsonObject): void;
  /** Called for each data frame, in order. `payload` is a view of a larger buffer. */
  data(stream: number, payload: Buffer): void;
  /** Called when data may be sent again. */
  writable(): void;
  /** Called when the WebSocket was closed. The link can be resumed until it is over. */
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
  /** How many messages were received, which is also the number of the next one. */
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

  /** Why the link is over; undefined: it is not. */
  get ended(): RpcError | undefined {
    return this.#over;
  }

  /** How long nothing has been received. Time in which this process did not run does not count. */
  get silentMs(): number {
    return this.#silentMs;
  }

  get received(): number {
    return this.#received;
  }

  /** Whether so many control messages are unacknowledged that new requests must be rejected. */
  get busy(): boolean {
    return this.#kept.controlBytes > CONTROL_BUSY_BYTES;
  }

  get canSendData(): boolean {
    const socket = this.#socket;
    return socket !== undefined && this.#kept.dataBytes < WINDOW_BYTES && socket.bufferedAmount < TRANSPORT_BYTES;
  }

  /** `text` is a result of `toControlText`. */
  sendControl(text: string): void {
    if (this.#over !== undefined) return;
    const message = withSeq(text, this.#kept.next);
    this.#kept.add(message);
    if (this.#kept.controlBytes > CONTROL_KEPT_BYTES_MAX) this.end('too much is not acknowledged', CLOSE.policy);
    else this.#send(message);
  }

  /** Fills in the first HEADER_BYTES of `frame` and sends it. Call it only while `canSendData` is true. */
  sendData(stream: number, frame: Buffer): void {
    frame.writeUInt32BE(stream, 0);
    frame.writeUInt32BE(this.#kept.next >>> 0, 4);
    this.#kept.add(frame);
    this.#send(frame);
  }

  /** Whether the other side can have received this many messages, and all later ones are still kept. */
  canResume(peerReceived: number): boolean {
    return this.#kept.canFollow(peerReceived);
  }

  /**
   * Continues on a WebSocket whose first messages have been exchanged: sends the messages that the other side has not
   * received. Must be called before the next message of the socket is read.
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
   * Ends the link. `code` is sent to the other side with the reason; without it, the WebSocket is terminated. `detail`
   * is text of the other side, for the log only. Resolves when the WebSocket is closed.
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

  /** After a reconnect, messages may arrive a second time; they are ignored. A gap is an error of the other side. */
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
    // Time in which this process did not run does not count as silence: messages may wait in its socket.
    const passedMs = Math.min(nowMs - this.#tickedMs, 2 * tickMs);
    this.#tickedMs = nowMs;
    this.#silentMs += passedMs;
    this.#idleMs += passedMs;
    if (this.#silentMs >= overMs) void this.end(`the other side was silent for ${overMs / 1_000} s`);
    else if (this.#silentMs >= silenceMs) this.#socket?.terminate();
    else if (this.#idleMs >= pingMs) this.#acknowledge();
  }
}
