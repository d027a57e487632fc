// Encodes the output of a terminal on a stream: frames with a kind, a number and a text, which become the calls of a
// Watcher.

/** A piece of output, or the exit of the terminal, which is the last frame. */
export type TerminalFrame =
  | { readonly seq: number; readonly data: string; readonly missed: boolean }
  | { readonly exitCode: number };

const KINDS = { output: 1, outputAfterGap: 2, exit: 3 } as const;
/** Fields, with their size in bytes: kind (1), sequence number or exit code (6), length of the text (4). */
const HEADER_BYTES = 11;
/** An upper bound that no piece of a terminal reaches. */
const DATA_BYTES_MAX = 256 << 10;

export function encodeFrame(frame: TerminalFrame): Buffer {
  const data = 'data' in frame ? frame.data : '';
  const length = Buffer.byteLength(data);
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + length);
  if ('exitCode' in frame) {
    bytes.writeUInt8(KINDS.exit);
    bytes.writeUIntBE(frame.exitCode, 1, 6);
  } else {
    bytes.writeUInt8(frame.missed ? KINDS.outputAfterGap : KINDS.output);
    bytes.writeUIntBE(frame.seq, 1, 6);
  }
  bytes.writeUInt32BE(length, 7);
  bytes.write(data, HEADER_BYTES);
  return bytes;
}

/**
 * Returns a function that takes the bytes of a stream as they arrive and returns the complete frames. It throws for an
 * invalid frame.
 */
export function createFrameReader(): (chunk: Buffer) => TerminalFrame[] {
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  /** Size of the first pending frame, as far as it is known. */
  let neededBytes = HEADER_BYTES;

  return (chunk) => {
    pending.push(chunk);
    pendingBytes += chunk.length;
    const frames: TerminalFrame[] = [];
    while (pendingBytes >= neededBytes) {
      const bytes = pending.length === 1 && pending[0] !== undefined ? pending[0] : Buffer.concat(pending);
      const end = HEADER_BYTES + lengthOf(bytes);
      if (bytes.length >= end) {
        frames.push(decode(bytes, end));
        pending = [bytes.subarray(end)];
        pendingBytes = bytes.length - end;
        neededBytes = HEADER_BYTES;
      } else {
        pending = [bytes];
        neededBytes = end;
      }
    }
    return frames;
  };
}

function lengthOf(bytes: Buffer): number {
  const length = bytes.readUInt32BE(7);
  if (length > DATA_BYTES_MAX) throw new Error(`a frame of ${length} bytes`);
  return length;
}

function decode(bytes: Buffer, end: number): TerminalFrame {
  const kind = bytes.readUInt8();
  const number = bytes.readUIntBE(1, 6);
  const data = bytes.toString('utf8', HEADER_BYTES, end);
  if (kind === KINDS.exit && data === '' && number <= 255) return { exitCode: number };
  if (kind === KINDS.output || kind === KINDS.outputAfterGap) {
    return { seq: number, data, missed: kind === KINDS.outputAfterGap };
  }
  throw new Error(`a frame of kind ${kind}`);
}
