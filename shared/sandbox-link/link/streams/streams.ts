// The streams of one side of a link. Decides which stream sends the next frame (streams take turns, frame by frame),
// and when received bytes are credited. A stream that is not read can send no more than its credit.

import { RpcError } from '../../../errors.ts';
import { isObject, type JsonObject } from '../../../json/json-object.ts';
import type { Channel } from '../channel.ts';
import { type LinkStream, STREAMS_MAX } from '../link.ts';
import {
  chargeOf,
  HEADER_BYTES,
  isCount,
  LINK_METHODS,
  PAYLOAD_BYTES_MAX,
  payloadWithin,
  toControlText,
  Violation,
} from '../wire.ts';
import { Credit } from './credit.ts';
import { StreamEnd } from './stream.ts';

const ID_MAX = 0xffff_ffff;
/** Consumed bytes are credited in steps of this size. */
const CREDIT_STEP_BYTES = 32 << 10;

type LinkChannel = Pick<Channel, 'canSendData' | 'sendControl' | 'sendData'>;

/** The methods that handle messages throw Violation if the other side has violated the protocol. */
export class Streams {
  readonly #channel: LinkChannel;
  readonly #streams = new Map<number, StreamEnd>();
  /** Streams that have something to send, in the order of their turns. */
  readonly #ready = new Set<StreamEnd>();
  /** Streams with data that wait for credit. */
  readonly #blocked = new Set<StreamEnd>();
  #nextId: number;
  #nextPeerId: number;
  #open = 0;
  #peerOpen = 0;
  readonly #sent = new Credit();
  readonly #received = new Credit();
  #isPumping = false;
  #isOver = false;

  /** Ids of streams that the gateway side opens are odd, those of the sandbox side even. */
  constructor(channel: LinkChannel, side: 'gateway' | 'sandbox') {
    this.#channel = channel;
    this.#nextId = side === 'gateway' ? 1 : 2;
    this.#nextPeerId = side === 'gateway' ? 2 : 1;
  }

  /** Streams that are not over, of both sides. */
  get size(): number {
    return this.#streams.size;
  }

  open(): LinkStream {
    if (this.#isOver || this.#open >= STREAMS_MAX || this.#nextId > ID_MAX) {
      throw new RpcError('unavailable', {
        message: this.#isOver ? 'The connection between the gateway and the sandbox has ended' : 'Too many streams',
      });
    }
    const id = this.#nextId;
    this.#nextId += 2;
    this.#open++;
    this.#control(LINK_METHODS.open, { stream: id });
    const stream = this.#add(id);
    stream.taken = true;
    return stream;
  }

  take(id: number): LinkStream {
    const stream = this.#streams.get(id);
    if (stream === undefined || stream.taken || stream.destroyed) {
      throw new RpcError('invalid_params', { message: 'there is no stream of this id to be taken' });
    }
    stream.taken = true;
    return stream;
  }

  /** Handles a control message about a stream; returns false for other messages. */
  control({ method, params }: JsonObject): boolean {
    if (method !== LINK_METHODS.open && method !== LINK_METHODS.reset && method !== LINK_METHODS.credit) return false;
    const { stream: id, bytes } = isObject(params) ? params : {};
    if (!isCount(id)) throw new Violation('a message about a stream has no id');
    else if (method === LINK_METHODS.open) this.#peerOpened(id);
    else if (method === LINK_METHODS.reset) this.#peerReset(id);
    else if (isCount(bytes)) this.#credited(id, bytes);
    else throw new Violation('a credit has no bytes');
    return true;
  }

  data(id: number, payload: Buffer): void {
    const stream = this.#streams.get(id);
    if (stream === undefined || stream.remoteFinal) throw new Violation('data of a stream that is not open');
    if (payload.length > PAYLOAD_BYTES_MAX) throw new Violation('a data frame is too large');
    if (payload.length === 0) {
      stream.receiveEnd();
      this.#creditConsumed(stream);
      this.#removeIfDone(stream);
      return;
    }
    const charge = chargeOf(payload.length);
    stream.uncredited = this.#received.change(stream.uncredited, charge);
    if (!this.#received.allows(stream.uncredited)) throw new Violation('data beyond the credit');
    if (stream.destroyed) this.consumed(stream, charge);
    else stream.receive(payload);
  }

  /** Sends frames while that is possible, one frame of each stream in turn. */
  pump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    for (const stream of this.#ready) {
      if (!this.#channel.canSendData) break;
      // A stream that is added again at the end of the set is visited again.
      this.#ready.delete(stream);
      this.#sendNext(stream);
    }
    this.#isPumping = false;
  }

  ready(stream: StreamEnd): void {
    if (this.#isOver || this.#blocked.has(stream)) return;
    this.#ready.add(stream);
    this.pump();
  }

  consumed(stream: StreamEnd, charge: number): void {
    stream.owed += charge;
    this.#creditConsumed(stream);
  }

  destroyed(stream: StreamEnd): void {
    this.#ready.delete(stream);
    this.#blocked.delete(stream);
    if (!isEnded(stream)) {
      stream.localFinal = true;
      this.#control(LINK_METHODS.reset, { stream: stream.id });
    }
    this.#creditConsumed(stream);
    this.#removeIfDone(stream);
  }

  end(error: RpcError): void {
    this.#isOver = true;
    this.#ready.clear();
    this.#blocked.clear();
    for (const stream of this.#streams.values()) if (!isEnded(stream)) stream.destroy(error);
    this.#streams.clear();
  }

  #add(id: number): StreamEnd {
    const stream = new StreamEnd(id, this);
    this.#streams.set(id, stream);
    return stream;
  }

  #control(method: string, params: object): void {
    if (!this.#isOver) this.#channel.sendControl(toControlText({ method, params }));
  }

  #sendNext(stream: StreamEnd): void {
    if (stream.hasData) {
      const payloadMax = payloadWithin(this.#sent.limit - stream.outstanding);
      if (payloadMax === 0) return void this.#blocked.add(stream);
      const frame = stream.nextFrame(payloadMax);
      stream.outstanding = this.#sent.change(stream.outstanding, chargeOf(frame.length - HEADER_BYTES));
      this.#channel.sendData(stream.id, frame);
      stream.sent();
    } else if (stream.isEnding) {
      this.#channel.sendData(stream.id, Buffer.allocUnsafe(HEADER_BYTES));
      stream.ended();
      this.#removeIfDone(stream);
    }
    if (!stream.destroyed && (stream.hasData || stream.isEnding)) this.#ready.add(stream);
  }

  #peerOpened(id: number): void {
    if (id !== this.#nextPeerId) throw new Violation('a stream is opened out of turn');
    if (this.#peerOpen >= STREAMS_MAX) throw new Violation('too many streams');
    this.#nextPeerId += 2;
    this.#peerOpen++;
    this.#add(id);
  }

  #peerReset(id: number): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) {
      const wasOpened = id < (this.#isOwn(id) ? this.#nextId : this.#nextPeerId);
      if (!wasOpened) throw new Violation('a stream is reset that was not opened');
      return;
    }
    // If both sides had ended the stream before the reset, the reader may still read the received bytes.
    if (isEnded(stream)) return;
    stream.remoteFinal = true;
    // The other side waits until this direction ends, too.
    if (!stream.localFinal) this.#control(LINK_METHODS.reset, { stream: id });
    stream.localFinal = true;
    stream.destroy(new RpcError('cancelled', { message: 'The other side has ended the stream' }));
    this.#creditConsumed(stream);
    this.#removeIfDone(stream);
  }

  #credited(id: number, bytes: number): void {
    const stream = this.#streams.get(id);
    if (stream === undefined || bytes > stream.outstanding) throw new Violation('more is credited than was sent');
    const { isScarce } = this.#sent;
    stream.outstanding = this.#sent.change(stream.outstanding, -bytes);
    for (const blocked of isScarce ? this.#blocked : [stream]) this.#unblock(blocked);
    this.#removeIfDone(stream);
    this.pump();
  }

  #unblock(stream: StreamEnd): void {
    if (this.#blocked.delete(stream)) this.#ready.add(stream);
  }

  /** Credits consumed bytes in steps; at the end of a stream all of them, when the reader has received everything. */
  #creditConsumed(stream: StreamEnd): void {
    const step = Math.min(CREDIT_STEP_BYTES, this.#received.limit / 2);
    if (stream.owed === 0 || (stream.owed < step && !(stream.remoteFinal && !stream.hasUnread))) return;
    this.#control(LINK_METHODS.credit, { stream: stream.id, bytes: stream.owed });
    stream.uncredited = this.#received.change(stream.uncredited, -stream.owed);
    stream.owed = 0;
    this.#removeIfDone(stream);
  }

  /** Removes a stream when both sides have ended it and all bytes are credited. */
  #removeIfDone(stream: StreamEnd): void {
    if (!isEnded(stream) || stream.outstanding > 0 || stream.uncredited > 0) return;
    if (!this.#streams.delete(stream.id)) return;
    if (this.#isOwn(stream.id)) this.#open--;
    else this.#peerOpen--;
  }

  #isOwn(id: number): boolean {
    return id % 2 === this.#nextId % 2;
  }
}

/** Whether both sides have ended the stream. */
function isEnded({ localFinal, remoteFinal }: StreamEnd): boolean {
  return localFinal && remoteFinal;
}
