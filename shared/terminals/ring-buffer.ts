// Stores the last output of a terminal in numbered pieces, so that a client that reconnects receives what it has
// missed, and no piece twice. It stores nothing about clients.

export interface Piece {
  /** Number of the last piece in `data`; numbers start at 1 and rise by one a piece. */
  readonly seq: number;
  readonly data: string;
  /** Whether pieces between the requested number and this one have been dropped. */
  readonly missed: boolean;
}

export interface RingBuffer {
  readonly lastSeq: number;
  push(data: string): void;
  /** The output after piece `seq`, joined up to about `bytesMax`; undefined when there is none. */
  after(seq: number, bytesMax: number): Piece | undefined;
  /** Bytes after piece `seq`, including dropped ones. */
  bytesAfter(seq: number): number;
}

/** A second bound besides the bytes: the overhead of many tiny pieces would exceed their text. */
const PIECES_MAX = 8192;

/** Keeps the last `bytesMax` bytes of UTF-8; the last piece is kept even if it is larger. */
export function createRingBuffer(bytesMax: number): RingBuffer {
  const pieces: { readonly data: string; readonly endBytes: number }[] = [];
  /** Number of `pieces[0]`. */
  let firstSeq = 1;
  /** Bytes pushed in total, and how many of them have been dropped. */
  let totalBytes = 0;
  let droppedBytes = 0;

  return {
    get lastSeq() {
      return firstSeq + pieces.length - 1;
    },
    push(data) {
      totalBytes += Buffer.byteLength(data);
      pieces.push({ data, endBytes: totalBytes });
      while (pieces.length > 1 && (totalBytes - droppedBytes > bytesMax || pieces.length > PIECES_MAX)) {
        droppedBytes = pieces.shift()?.endBytes ?? droppedBytes;
        firstSeq++;
      }
    },
    after(seq, bytesWanted) {
      const start = Math.max(0, seq + 1 - firstSeq);
      const from = start === 0 ? droppedBytes : (pieces[start - 1]?.endBytes ?? totalBytes);
      let data = '';
      let end = start;
      for (let piece = pieces[end]; piece !== undefined; piece = pieces[++end]) {
        if (end > start && piece.endBytes - from > bytesWanted) break;
        data += piece.data;
      }
      return end === start ? undefined : { seq: firstSeq + end - 1, data, missed: seq + 1 < firstSeq };
    },
    bytesAfter(seq) {
      const piece = pieces[seq - firstSeq];
      return totalBytes - (piece?.endBytes ?? (seq < firstSeq ? 0 : totalBytes));
    },
  };
}
