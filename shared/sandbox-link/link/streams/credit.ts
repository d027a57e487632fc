// Flow control: how many uncredited bytes each stream of one direction may have. RESERVED_BYTES are guaranteed to each.
// In addition, a stream may use an eighth of what is free in the shared pool, up to STREAM_CREDIT_BYTES in total. So
// any number of streams that are not read cannot use up the credit of the others.
import { LINK_CREDIT_BYTES, STREAM_CREDIT_BYTES, STREAMS_MAX } from '../link.ts';

const RESERVED_BYTES = 4 << 10;
const POOL_BYTES = LINK_CREDIT_BYTES - 2 * STREAMS_MAX * RESERVED_BYTES;
const SHARE = 8;

export class Credit {
  /** The bytes that streams use beyond RESERVED_BYTES. */
  #pooled = 0;

  /** The bytes that one stream may use now. */
  get limit(): number {
    return Math.min(STREAM_CREDIT_BYTES, RESERVED_BYTES + Math.floor((POOL_BYTES - this.#pooled) / SHARE));
  }

  get isScarce(): boolean {
    return this.limit < STREAM_CREDIT_BYTES;
  }

  /** Returns the bytes that a stream uses after a change; `before` is what it used. Does not check the limits. */
  change(before: number, bytes: number): number {
    this.#pooled += Math.max(0, before + bytes - RESERVED_BYTES) - Math.max(0, before - RESERVED_BYTES);
    return before + bytes;
  }

  /** Whether a sender that respects `limit` can be in this state: one stream with `bytes`, and the pool as it is. */
  allows(bytes: number): boolean {
    return bytes <= STREAM_CREDIT_BYTES && this.#pooled <= POOL_BYTES;
  }
}
