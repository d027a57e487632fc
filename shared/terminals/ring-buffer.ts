// The last output of a terminal, in numbered pieces, so that a client that reconnects sees the screen again and no
// piece twice. Independent of clients.

export interface Piece {
  /** Number of the last piece in `data`; numbers start at 1 and rise by one a piece. */
  readonly seq: number;
  readonly data: string;
  /** Pieces between the requested number and this one have been dropped. */
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

/** In addition to the bytes: many tiny pieces must not cost more than their text. */
const PIECES_MAX = 8192;

/** Keeps `bytesMax` bytes of UTF-8, and always the last piece. */
export function createRingBuffer(bytesMax: number): RingBuffer {
  const pieces: { readonly data: string; readonly endBytes: number }[] = [];
  /** Number of `pieces[0]`. */
  let firstSeq = 1;
  /** Bytes ever pushed, and those of them that were dropped. */
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
