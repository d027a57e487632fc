// The maximum size of a message of an MCP server: its bytes, and the memory of its parsed value.
import { inspectJson } from '../../../rpc/json/json-numbers.ts';

export const FRAME_BYTES_MAX = 4 << 20;
export const TOO_LARGE = `a message is larger than ${FRAME_BYTES_MAX >> 20} MiB, the limit of the gateway`;
/** Parsing a message whose value takes more memory would block the event loop for too long. */
const VALUE_BYTES_MAX = 64 << 20;
export const TOO_HEAVY = `a message takes more than ${VALUE_BYTES_MAX >> 20} MiB of memory`;
/** Smaller messages cannot exceed VALUE_BYTES_MAX and are not checked. */
const VALUE_CHECKED_BYTES = 1 << 20;

export function isTooHeavy(text: string): boolean {
  return text.length > VALUE_CHECKED_BYTES && inspectJson(text).heapBytes > VALUE_BYTES_MAX;
}
