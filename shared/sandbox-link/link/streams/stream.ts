// One end of a stream of a link: a Duplex that queues written bytes and delivers received ones. The host (streams.ts)
// decides when it may send a frame.
import { Duplex } from 'node:stream';
import { RpcError } from '../../../errors.ts';
import type { LinkStream } from '../link.ts';
import { chargeOf, HEADER_BYTES, PAYLOAD_BYTES_MAX } from '../wire.ts';

export interface StreamHost {
  /** The stream has something to send. */
  ready(stream: StreamEnd): void;
  /** The reader has consumed data; `charge` is how much credit it used. */
  consumed(stream: StreamEnd, charge: number): void;
  destroyed(stream: StreamEnd): void;
}

type Callback = (error?: Error | null) => void;

export class StreamEnd extends Duplex implements LinkStream {
  readonly id: number;
  readonly #host: StreamHost;
  /** Credit used by sent data that the other side has not credited. */
  outstanding = 0;
  /**
   * `uncredited`: credit used by received data that was not credited; `owed`: the part of it that the reader has
   * consumed.
   */
  uncredited = 0;
  owed = 0;
  /** Whether this side (`localFinal`) or the other side (`remoteFinal`) has ended its direction. */
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

  /** Returns the next frame: space for the header, and at most `payloadMax` bytes of payload. */
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

  /**
   * Call it after the frame of `nextFrame` was sent. It calls the callback of the write, which may write again at once.
   */
  sent(): void {
    if (this.#chunks.length > 0) return;
    const written = this.#written;
    this.#written = undefined;
    written?.();
  }

  /** Call it when the end of this direction was sent. */
  ended(): void {
    this.localFinal = true;
    this.#finished?.();
  }

  /** A payload that has to wait is copied, because a view would keep the larger receive buffer in memory. */
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
