// Cuts the output of a command to the bytes that its response may have as JSON: a control character is six bytes there,
// a byte that is no UTF-8 becomes a replacement character of three bytes and is repeated in base64.
import { isUtf8 } from 'node:buffer';

/**
 * How many leading bytes of each stream fit into `jsonBytesMax` together; each has half reserved, and may use what the
 * other leaves.
 */
export function fitOutput(stdout: Buffer, stderr: Buffer, jsonBytesMax: number): { stdout: Buffer; stderr: Buffer } {
  // The usual case, without examining each byte.
  const most = (stdout.length + stderr.length) * ESCAPE_BYTES;
  if (most <= jsonBytesMax && isUtf8(stdout) && isUtf8(stderr)) return { stdout, stderr };
  const half = take(stderr, Math.floor(jsonBytesMax / 2));
  const out = take(stdout, jsonBytesMax - half.jsonBytes);
  const err = half.bytes.length === stderr.length ? half : take(stderr, jsonBytesMax - out.jsonBytes);
  return { stdout: out.bytes, stderr: err.bytes };
}

/** Bytes of the longest escape, of a control character. */
const ESCAPE_BYTES = 6;
const SHORT_ESCAPES = new Set([8, 9, 10, 12, 13, 34, 92]);

function take(bytes: Buffer, jsonBytesMax: number): { readonly bytes: Buffer; readonly jsonBytes: number } {
  const isText = isUtf8(bytes);
  let jsonBytes = 0;
  let end = 0;
  for (let byte = bytes[end]; byte !== undefined; byte = bytes[++end]) {
    const cost = costOf(byte, isText);
    if (jsonBytes + cost > jsonBytesMax) break;
    jsonBytes += cost;
  }
  // Not within a character.
  if (isText && end < bytes.length) while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return { bytes: bytes.subarray(0, end), jsonBytes };
}

function costOf(byte: number, isText: boolean): number {
  const inText = SHORT_ESCAPES.has(byte) ? 2 : byte < 32 ? ESCAPE_BYTES : byte >= 128 && !isText ? 3 : 1;
  return isText ? inText : inText + 4 / 3;
}
