// One end of a stream: a Duplex between its user and the streams of a link, which decide when a frame of it is sent.
import { Duplex } from 'node:stream';
import { RpcError } from '../../errors.ts';
import type { LinkStream } from './link.ts';
import { chargeOf, HEADER_BYTES, PAYLOAD_BYTES_MAX } from './wire.ts';

export interface StreamHost {
  /** The stream has something to send. */
  ready(stream: StreamEnd): void;
  /** The reader has taken what cost so much of the credit. */
  consumed(stream: StreamEnd, charge: number): void;
  destroyed(stream: StreamEnd): void;
}

type Callback = (error?: Error | null) => void;

export class StreamEnd extends Duplex implements LinkStream {
  readonly id: number;
  readonly #host: StreamHost;
  /** Cost of what was sent and not credited. */
  outstanding = 0;
  /** Cost of what was received and not credited, and the part of it that the reader has consumed. */
  uncredited = 0;
  owed = 0;
  /** Whether this side, or the other one, will send nothing more. */
  localFinal = false;
  remoteFinal = false;
  taken = false;
  #chunks: Buffer[] = [];
  #offset = 0;
  #written: Callback | undefined;
  #finished: Callback | undefined;
  #unread: Buffer[] = [];
  #wanted = false;

  constructor(id: number, host: StreamHost) {
    super({ highWaterMark: PAYLOAD_BYTES_MAX, allowHalfOpen: true });
    this.id = id;
    this.#host = host;
    this.on('error', ignore);
  }

  get hasData(): boolean {
    return this.#chunks.length > 0;
  }

  get isEnding(): boolean {
    return this.#finished !== undefined && !this.localFinal;
  }

  get hasUnread(): boolean {
    return this.#unread.length > 0;
  }

  /** The next frame, with room for its header and at most `payloadMax` bytes of payload. */
  nextFrame(payloadMax: number): Buffer {
    let queued = -this.#offset;
    for (const { length } of this.#chunks) {
      queued += length;
      if (queued >= payloadMax) break;
    }
    const frame = Buffer.allocUnsafe(HEADER_BYTES + Math.min(queued, payloadMax));
    let at = HEADER_BYTES;
    let done = 0;
    for (const chunk of this.#chunks) {
      const copied = chunk.copy(frame, at, this.#offset);
      at += copied;
      this.#offset += copied;
      if (this.#offset < chunk.length) break;
      this.#offset = 0;
      done++;
      if (at === frame.length) break;
    }
    this.#chunks.splice(0, done);
    return frame;
  }

  /** To be called after `nextFrame`, when the frame is sent: the next write may come in at once. */
  sent(): void {
    if (this.#chunks.length > 0) return;
    const written = this.#written;
    this.#written = undefined;
    written?.();
  }

  /** The end is sent. */
  ended(): void {
    this.localFinal = true;
    this.#finished?.();
  }

  /** A payload that waits is copied: a view would keep the larger buffer that it was received in. */
  receive(payload: Buffer): void {
    const waits = !this.#wanted || this.hasUnread;
    this.#unread.push(waits ? Buffer.copyBytesFrom(payload) : payload);
    this.#deliver();
  }

  receiveEnd(): void {
    this.remoteFinal = true;
    this.#deliver();
  }

  override _read(): void {
    this.#wanted = true;
    this.#deliver();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    this.#enqueue([chunk], callback);
  }

  override _writev(writes: { chunk: Buffer }[], callback: Callback): void {
    this.#enqueue(
      writes.map(({ chunk }) => chunk),
      callback,
    );
  }

  override _final(callback: Callback): void {
    this.#finished = callback;
    this.#host.ready(this);
  }

  override _destroy(error: Error | null, callback: Callback): void {
    const written = this.#written;
    const unread = this.#unread;
    this.#chunks = [];
    this.#unread = [];
    this.#written = undefined;
    const charge = unread.reduce((sum, { length }) => sum + chargeOf(length), 0);
    this.#host.consumed(this, charge);
    this.#host.destroyed(this);
    written?.(error ?? new RpcError('cancelled', { message: 'The stream was destroyed before it was sent' }));
    callback(error);
  }

  #enqueue(chunks: Buffer[], callback: Callback): void {
    this.#chunks = chunks.filter(({ length }) => length > 0);
    if (this.#chunks.length === 0) return void callback();
    this.#written = callback;
    this.#host.ready(this);
  }

  #deliver(): void {
    while (this.#wanted) {
      const payload = this.#unread.shift();
      if (payload === undefined) break;
      this.#wanted = this.push(payload);
      this.#host.consumed(this, chargeOf(payload.length));
    }
    if (this.remoteFinal && !this.hasUnread && !this.destroyed) this.push(null);
  }
}

function ignore(): void {}
