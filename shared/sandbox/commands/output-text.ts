// Cuts the output of a command to the size that it may have as JSON in the response. There, a control character takes
// six bytes, and an invalid UTF-8 byte takes three (the replacement character) and is sent in base64 as well.
import { isUtf8 } from 'node:buffer';

/**
 * Returns the leading bytes of each stream that fit into `jsonBytesMax` together. Each stream is guaranteed half of it,
 * and may use what the other one leaves.
 */
export function fitOutput(stdout: Buffer, stderr: Buffer, jsonBytesMax: number): { stdout: Buffer; stderr: Buffer } {
  // The usual case, without examining each byte.
  const largest = (stdout.length + stderr.length) * ESCAPE_BYTES;
  if (largest <= jsonBytesMax && isUtf8(stdout) && isUtf8(stderr)) return { stdout, stderr };
  // stdout is cut second, so that it can use what stderr leaves of its half. stderr is cut again if it did not fit into
  // its half, to use what stdout has left.
  const halfOfErrors = cut(stderr, Math.floor(jsonBytesMax / 2));
  const output = cut(stdout, jsonBytesMax - halfOfErrors.jsonBytes);
  const isWhole = halfOfErrors.bytes.length === stderr.length;
  const errors = isWhole ? halfOfErrors : cut(stderr, jsonBytesMax - output.jsonBytes);
  return { stdout: output.bytes, stderr: errors.bytes };
}

/** The longest escape: that of a control character. */
const ESCAPE_BYTES = 6;
const SHORT_ESCAPES = new Set([8, 9, 10, 12, 13, 34, 92]);

function cut(bytes: Buffer, jsonBytesMax: number): { readonly bytes: Buffer; readonly jsonBytes: number } {
  const isText = isUtf8(bytes);
  let jsonBytes = 0;
  let end = 0;
  for (let byte = bytes[end]; byte !== undefined; byte = bytes[++end]) {
    const cost = costOf(byte, isText);
    if (jsonBytes + cost > jsonBytesMax) break;
    jsonBytes += cost;
  }
  // Not within a character: skip back over continuation bytes.
  if (isText && end < bytes.length) while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return { bytes: bytes.subarray(0, end), jsonBytes };
}

function costOf(byte: number, isText: boolean): number {
  const inText = SHORT_ESCAPES.has(byte) ? 2 : byte < 32 ? ESCAPE_BYTES : byte >= 128 && !isText ? 3 : 1;
  return isText ? inText : inText + 4 / 3;
}
