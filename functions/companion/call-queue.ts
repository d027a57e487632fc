// Queues the calls of one socket: CALLS_MAX run concurrently, a bounded number wait in order, and further ones are
// rejected. Messages are not parsed here, except `conversation.cancel`, which does not wait: otherwise a client could
// not cancel the calls that fill the queue.
import { METHODS } from '../../shared/protocol.ts';

/**
 * Maximum number of calls in flight. A batch counts as its number of calls; a batch with more calls than this runs
 * alone.
 */
export const CALLS_MAX = 32;
/** Maximum number of waiting messages, and their maximum total size. */
const WAITING_MAX = 256;
const WAITING_BYTES_MAX = 1 << 20;
/** Maximum number of additional cancels in flight, and the maximum size of one. */
const CANCELS_MAX = 32;
const CANCEL_BYTES_MAX = 4 << 10;
/**
 * With this many rejections in progress, reading from the peer pauses. (Each rejection is charged to the key, so it
 * takes time.)
 */
const REFUSING_MAX = 64;

export interface CallQueueOwner {
  /** Runs the calls of a message and sends the response. Must not reject. */
  handle(body: Buffer, isBinary: boolean): Promise<void>;
  /** Sends an error for a message that does not fit into the queue. Must not reject. */
  refuse(body: Buffer, isBinary: boolean): Promise<void>;
  pause(): void;
  resume(): void;
}

export class CallQueue {
  readonly #owner: CallQueueOwner;
  readonly #waiting: { readonly body: Buffer; readonly isBinary: boolean; readonly weight: number }[] = [];
  #waitingBytes = 0;
  #inFlight = 0;
  #cancelling = 0;
  #refusing = 0;
  #stopped = false;

  constructor(owner: CallQueueOwner) {
    this.#owner = owner;
  }

  add(body: Buffer, isBinary: boolean): void {
    if (this.#stopped) return;
    const weight = isBinary ? 1 : weightOf(body);
    if (this.#waiting.length === 0 && this.#fits(weight)) void this.#run(body, isBinary, weight);
    else if (!isBinary && this.#cancelling < CANCELS_MAX && isCancel(body)) void this.#cancel(body);
    else if (this.#waiting.length < WAITING_MAX && this.#waitingBytes + body.length <= WAITING_BYTES_MAX) {
      this.#waiting.push({ body, isBinary, weight });
      this.#waitingBytes += body.length;
    } else void this.#refuse(body, isBinary);
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  /** Discards the waiting messages and accepts no more. */
  stop(): void {
    this.#stopped = true;
    this.#waiting.length = 0;
    this.#waitingBytes = 0;
  }

  #fits(weight: number): boolean {
    return this.#inFlight === 0 || this.#inFlight + weight <= CALLS_MAX;
  }

  async #run(body: Buffer, isBinary: boolean, weight: number): Promise<void> {
    this.#inFlight += weight;
    await this.#owner.handle(body, isBinary);
    this.#inFlight -= weight;
    for (let first = this.#waiting[0]; first !== undefined && this.#fits(first.weight); first = this.#waiting[0]) {
      this.#waiting.shift();
      this.#waitingBytes -= first.body.length;
      void this.#run(first.body, first.isBinary, first.weight);
    }
  }

  async #cancel(body: Buffer): Promise<void> {
    this.#cancelling++;
    await this.#owner.handle(body, false);
    this.#cancelling--;
  }

  async #refuse(body: Buffer, isBinary: boolean): Promise<void> {
    if (++this.#refusing === REFUSING_MAX) this.#owner.pause();
    await this.#owner.refuse(body, isBinary);
    if (this.#refusing-- === REFUSING_MAX) this.#owner.resume();
  }
}

const OPEN_ARRAY = 0x5b;

/**
 * Number of calls in a message, at least 1. Parses batches only; an invalid message counts as one call, which is
 * refused later.
 */
function weightOf(body: Buffer): number {
  if (body[firstByte(body)] !== OPEN_ARRAY) return 1;
  try {
    const calls: unknown = JSON.parse(body.toString('utf8'));
    return Array.isArray(calls) ? Math.min(CALLS_MAX, Math.max(1, calls.length)) : 1;
  } catch {
    return 1;
  }
}

function isCancel(body: Buffer): boolean {
  if (body.length > CANCEL_BYTES_MAX) return false;
  try {
    const call: unknown = JSON.parse(body.toString('utf8'));
    return typeof call === 'object' && call !== null && 'method' in call && call.method === METHODS.cancel;
  } catch {
    return false;
  }
}

/** Index of the first byte that is not JSON white space. */
function firstByte(body: Buffer): number {
  let index = 0;
  for (let byte = body[0]; byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d; byte = body[++index]);
  return index;
}
