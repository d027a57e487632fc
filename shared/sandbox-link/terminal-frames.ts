// The output of a terminal on its stream: frames of a kind, a number and a text, as the Watcher port receives them.

/** A piece of output, or how the terminal ended, which is the last frame. */
export type TerminalFrame =
  | { readonly seq: number; readonly data: string; readonly missed: boolean }
  | { readonly exitCode: number };

const KINDS = { output: 1, outputAfterGap: 2, exit: 3 } as const;
/** kind (1), sequence number or exit code (6), bytes of the text (4). */
const HEADER_BYTES = 11;
/** More than a terminal sends in one piece. */
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

/** Takes the bytes of a stream as they arrive and returns the frames that are complete. Throws for what is no frame. */
export function createFrameReader(): (chunk: Buffer) => TerminalFrame[] {
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  /** Bytes that the frame at the front needs. */
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
