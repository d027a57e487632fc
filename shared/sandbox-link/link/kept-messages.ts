// The messages that one side of a link has sent and the other side has not acknowledged, in order.
import { chargeOf } from './wire.ts';

/** A control message is text, a data frame is bytes. */
export type Message = string | Buffer;

export class KeptMessages {
  /** `#messages[0]` has the number `#acknowledged`. */
  #messages: Message[] = [];
  #acknowledged = 0;
  #controlBytes = 0;
  #dataBytes = 0;

  /** The number of the message that is added next. */
  get next(): number {
    return this.#acknowledged + this.#messages.length;
  }

  get controlBytes(): number {
    return this.#controlBytes;
  }

  get dataBytes(): number {
    return this.#dataBytes;
  }

  add(message: Message): void {
    this.#messages.push(message);
    this.#count(message, 1);
  }

  /** Whether the other side can have received this many messages, and all later ones are kept. */
  canFollow(received: number): boolean {
    return received >= this.#acknowledged && received <= this.next;
  }

  /**
   * Removes the first `received` messages. An older acknowledgement changes nothing. False: more are acknowledged than
   * were sent.
   */
  acknowledge(received: number): boolean {
    if (received > this.next) return false;
    const count = received - this.#acknowledged;
    if (count <= 0) return true;
    for (const message of this.#messages.splice(0, count)) this.#count(message, -1);
    this.#acknowledged = received;
    return true;
  }

  clear(): void {
    this.#messages = [];
  }

  [Symbol.iterator](): Iterator<Message> {
    return this.#messages.values();
  }

  #count(message: Message, sign: 1 | -1): void {
    const charge = sign * chargeOf(message.length);
    if (typeof message === 'string') this.#controlBytes += charge;
    else this.#dataBytes += charge;
  }
}
