// Pages of lists end by bytes as well as by entries: two hundred messages of a megabyte are one answer otherwise. What
// is counted is the JSON of an entry, as it is sent.
import { RpcError } from '../errors.ts';

/**
 * Bytes of the entries of one page. Below 1 MiB by what a response has around them, so that a page fits into a
 * WebSocket message.
 */
export const PAGE_BYTES_MAX = (1 << 20) - (2 << 10);

export interface Page<Item> {
  readonly items: readonly Item[];
  /** Whether the entry is on the page. The first always is, so that every page makes progress. */
  add(item: Item): boolean;
  /**
   * Throws RpcError `payload_too_large` when the only entry is more than `answerBytesMax` carries; the error contains
   * the cursor to continue from. `data` names the entry.
   */
  check(answerBytesMax: number, nextCursor: string | undefined, data?: Readonly<Record<string, unknown>>): void;
}

export function createPage<Item>(): Page<Item> {
  const items: Item[] = [];
  let bytes = 0;
  return {
    items,
    add(item) {
      // With the comma between two.
      const itemBytes = Buffer.byteLength(JSON.stringify(item)) + 1;
      if (items.length > 0 && bytes + itemBytes > PAGE_BYTES_MAX) return false;
      items.push(item);
      bytes += itemBytes;
      return true;
    },
    check(answerBytesMax, nextCursor, data = {}) {
      if (bytes <= PAGE_BYTES_MAX || bytes + (2 << 10) <= answerBytesMax) return;
      const goOn = nextCursor === undefined ? 'it is the last one' : 'go on at data.next_cursor';
      throw new RpcError('payload_too_large', {
        message:
          `Payload too large: the next entry alone has ${bytes} bytes; read it over HTTP with limit 1, or skip ` +
          `it: ${goOn}`,
        data: {
          ...data,
          limit_bytes: answerBytesMax,
          answer_bytes: bytes,
          ...(nextCursor !== undefined && { next_cursor: nextCursor }),
        },
      });
    },
  };
}
