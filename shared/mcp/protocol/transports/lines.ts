// Splits a stream of bytes into lines, in one growing buffer with a maximum size. So a peer that writes byte by byte,
// or never a newline, uses no more memory than the longest allowed line.

export interface LineReader {
  /**
   * Calls `onLine` for each complete line, without its newline, until `onLine` returns `stop`. Returns how many bytes
   * of the chunk were consumed. Throws RangeError when a line exceeds the bound.
   */
  push(chunk: Buffer, onLine: (line: Buffer) => unknown): number;
}

const NEWLINE = 0x0a;
const FIRST_BYTES = 4096;

/** The buffer given to `onLine` is valid during that call only. */
export function createLineReader(lineBytesMax: number): LineReader {
  let buffer = Buffer.alloc(0);
  let used = 0;

  function keep(bytes: Buffer): void {
    const needed = used + bytes.length;
    if (needed > lineBytesMax) throw new RangeError(`a line is longer than ${lineBytesMax} bytes`);
    if (needed > buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(FIRST_BYTES, needed, buffer.length * 2));
      buffer.copy(larger, 0, 0, used);
      buffer = larger;
    }
    bytes.copy(buffer, used);
    used = needed;
  }

  return {
    push(chunk, onLine) {
      let start = 0;
      for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
        const rest = chunk.subarray(start, end);
        start = end + 1;
        let line = rest;
        if (used > 0) {
          keep(rest);
          line = buffer.subarray(0, used);
          used = 0;
        } else if (rest.length > lineBytesMax) throw new RangeError(`a line is longer than ${lineBytesMax} bytes`);
        if (onLine(line) === 'stop') return start;
      }
      keep(chunk.subarray(start));
      if (used === 0) buffer = Buffer.alloc(0);
      return chunk.length;
    },
  };
}
