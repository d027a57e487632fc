// How much each stream of one direction may have outstanding: RESERVED_BYTES in any case, and of the rest of the link's
// credit an eighth of what is free, up to STREAM_CREDIT_BYTES. So streams that are not read leave something to others,
// however many they are.
import { LINK_CREDIT_BYTES, STREAM_CREDIT_BYTES, STREAMS_MAX } from './link.ts';

const RESERVED_BYTES = 4 << 10;
const POOL_BYTES = LINK_CREDIT_BYTES - 2 * STREAMS_MAX * RESERVED_BYTES;
const SHARE = 8;

export class Credit {
  /** What streams have beyond RESERVED_BYTES. */
  #pooled = 0;

  /** What one stream may have now. */
  get limit(): number {
    return Math.min(STREAM_CREDIT_BYTES, RESERVED_BYTES + Math.floor((POOL_BYTES - this.#pooled) / SHARE));
  }

  get isScarce(): boolean {
    return this.limit < STREAM_CREDIT_BYTES;
  }

  /** What a stream that had `before` has after a change. Not checked against the limits. */
  change(before: number, bytes: number): number {
    this.#pooled += Math.max(0, before + bytes - RESERVED_BYTES) - Math.max(0, before - RESERVED_BYTES);
    return before + bytes;
  }

  /** Whether a sender that keeps to `limit` can have come to this: the streams together, and one with so much. */
  allows(bytes: number): boolean {
    return bytes <= STREAM_CREDIT_BYTES && this.#pooled <= POOL_BYTES;
  }
}
