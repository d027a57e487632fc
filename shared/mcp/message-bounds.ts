// How large a message of an MCP server may be: its bytes, and the memory that its value takes.
import { inspectJson } from '../rpc/json-numbers.ts';

export const FRAME_BYTES_MAX = 4 << 20;
export const TOO_LARGE = `a message is larger than ${FRAME_BYTES_MAX >> 20} MiB, the most that the gateway takes`;
/** A message whose value takes more memory would stop the event loop for as long as it takes to make. */
const VALUE_BYTES_MAX = 64 << 20;
export const TOO_HEAVY = `a message takes more than ${VALUE_BYTES_MAX >> 20} MiB of memory`;
/** Smaller messages cannot. */
const VALUE_CHECKED_BYTES = 1 << 20;

export function isTooHeavy(text: string): boolean {
  return text.length > VALUE_CHECKED_BYTES && inspectJson(text).heapBytes > VALUE_BYTES_MAX;
}
