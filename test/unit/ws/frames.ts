// A WebSocket client that can do wrong: raw bytes over TCP, frames built by hand (RFC 6455, section 5.2).
import { connect, type Socket } from 'node:net';

export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

export interface FrameOptions {
  readonly fin?: boolean;
  /** The three reserved bits, 0..7. */
  readonly rsv?: number;
  readonly masked?: boolean;
  /** What the header says instead of the payload's length. */
  readonly claimedLength?: bigint;
  /** Bytes of the length field: 0, 2 or 8; default: the shortest that fits. */
  readonly lengthBytes?: 0 | 2 | 8;
}

/** One client frame. */
export function frame(opcode: number, payload: Uint8Array | string = '', options: FrameOptions = {}): Buffer {
  const { fin = true, rsv = 0, masked = true } = options;
  const body = Buffer.from(payload);
  const length = options.claimedLength ?? BigInt(body.length);
  const lengthBytes = options.lengthBytes ?? (length < 126n ? 0 : length < 65_536n ? 2 : 8);
  const head = Buffer.alloc(2 + lengthBytes);
  head[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  head[1] = (masked ? 0x80 : 0) | (lengthBytes === 0 ? Number(length) : lengthBytes === 2 ? 126 : 127);
  if (lengthBytes === 2) head.writeUInt16BE(Number(length), 2);
  if (lengthBytes === 8) head.writeBigUInt64BE(length, 2);
  if (!masked) return Buffer.concat([head, body]);
  const mask = Buffer.from([0x37, 0xfa, 0x21, 0x3d]);
  return Buffer.concat([head, mask, body.map((byte, index) => byte ^ (mask[index % 4] ?? 0))]);
}

export function closeFrame(code: number | undefined, reason: Uint8Array | string = ''): Buffer {
  const head = Buffer.alloc(code === undefined ? 0 : 2);
  if (code !== undefined) head.writeUInt16BE(code);
  return frame(OPCODE.close, Buffer.concat([head, Buffer.from(reason)]));
}

export interface ServerFrame {
  readonly opcode: number;
  readonly payload: Buffer;
}

export interface RawClient {
  readonly socket: Socket;
  /** Frames of the server so far. */
  readonly frames: ServerFrame[];
  write(bytes: Uint8Array): void;
  /** Resolves to the first frame, past or future, that matches; rejects when the connection ends before. */
  until(matches: (frame: ServerFrame) => boolean): Promise<ServerFrame>;
  /** Code of the server's close frame (1005: none in it, 1006: the connection ended without one), once the connection has ended. */
  readonly ended: Promise<number>;
}

/** Resolves once the server has upgraded the connection. */
export async function openRaw(port: number, key: string, head: Uint8Array = new Uint8Array()): Promise<RawClient> {
  const socket = connect(port, '127.0.0.1');
  socket.setNoDelay(true);
  const frames: ServerFrame[] = [];
  const waiting = new Set<() => void>();
  let received = Buffer.alloc(0);
  let upgraded = false;
  let over = false;
  const wake = (): void => {
    for (const check of [...waiting]) check();
  };
  const opened = Promise.withResolvers<void>();
  const ended = new Promise<number>((resolve) => {
    socket.once('close', () => {
      over = true;
      wake();
      opened.reject(new Error(`no upgrade: ${received.toString('latin1').slice(0, 200)}`));
      const close = frames.find(({ opcode }) => opcode === OPCODE.close);
      resolve(close === undefined ? 1006 : close.payload.length < 2 ? 1005 : close.payload.readUInt16BE());
    });
  });
  socket.on('error', () => {});
  socket.on('data', (chunk) => {
    received = Buffer.concat([received, chunk]);
    if (!upgraded) {
      const end = received.indexOf('\r\n\r\n');
      if (end === -1 || !received.toString('latin1').startsWith('HTTP/1.1 101 ')) return;
      upgraded = true;
      received = received.subarray(end + 4);
      opened.resolve();
    }
    for (let next = readFrame(received); next !== undefined; next = readFrame(received)) {
      received = received.subarray(next.bytes);
      frames.push(next.frame);
    }
    wake();
  });
  const request = [
    'GET /ws HTTP/1.1',
    'Host: localhost',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    `X-API-Key: ${key}`,
  ];
  socket.write(Buffer.concat([Buffer.from(`${request.join('\r\n')}\r\n\r\n`), head]));
  await opened.promise;
  return {
    socket,
    frames,
    ended,
    write: (bytes) => void socket.write(bytes),
    until: (matches) =>
      new Promise((resolve, reject) => {
        const check = (): void => {
          const found = frames.find(matches);
          if (found === undefined && !over) return;
          waiting.delete(check);
          if (found !== undefined) resolve(found);
          else reject(new Error('the connection ended before the frame came'));
        };
        waiting.add(check);
        check();
      }),
  };
}

/** Server frames are not masked. */
function readFrame(bytes: Buffer): { readonly frame: ServerFrame; readonly bytes: number } | undefined {
  const [first, second] = bytes;
  if (first === undefined || second === undefined) return undefined;
  const short = second & 0x7f;
  const start = short < 126 ? 2 : short === 126 ? 4 : 10;
  if (bytes.length < start) return undefined;
  const length = short < 126 ? short : short === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  if (bytes.length < start + length) return undefined;
  return {
    frame: { opcode: first & 0x0f, payload: bytes.subarray(start, start + length) },
    bytes: start + length,
  };
}
