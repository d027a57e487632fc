// Bounds a page of a list in bytes as well as in entries, because 200 messages of 1 MB would otherwise be one response.
// The bytes are those of the JSON text of each entry.
import { RpcError } from '../errors.ts';

/**
 * Most bytes of the entries of one page: 1 MiB minus the JSON around them, so that a page fits into a WebSocket
 * message.
 */
export const PAGE_BYTES_MAX = (1 << 20) - (2 << 10);

export interface Page<Item> {
  readonly items: readonly Item[];
  /**
   * Adds the entry if it fits; returns whether it did. The first entry is always added, so that every page makes
   * progress.
   */
  add(item: Item): boolean;
  /**
   * Throws RpcError `payload_too_large` when the only entry has more bytes than `answerBytesMax` allows; the error
   * contains the cursor of the next page. `data` identifies the entry.
   */
  check(answerBytesMax: number, nextCursor: string | undefined, data?: Readonly<Record<string, unknown>>): void;
}

export function createPage<Item>(): Page<Item> {
  const items: Item[] = [];
  let bytes = 0;
  return {
    items,
    add(item) {
      // With the comma after it.
      const itemBytes = Buffer.byteLength(JSON.stringify(item)) + 1;
      if (items.length > 0 && bytes + itemBytes > PAGE_BYTES_MAX) return false;
      items.push(item);
      bytes += itemBytes;
      return true;
    },
    check(answerBytesMax, nextCursor, data = {}) {
      if (bytes <= PAGE_BYTES_MAX || bytes + (2 << 10) <= answerBytesMax) return;
      const goOn = nextCursor === undefined ? 'it is the last one' : 'continue at data.next_cursor';
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
