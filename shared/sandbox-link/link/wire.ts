// The form of what a WebSocket of a link carries. Control: JSON text, numbered by `seq` except for acknowledgements and
// the first messages. Data: binary, `stream` (u32), `seq` (u32, the low half of the number), payload; an empty payload
// ends the stream in this direction.
import { RpcError } from '../../errors.ts';
import { CONTROL_BYTES_MAX } from './link.ts';

/** Most bytes of the payload of one data frame: what another stream waits for. */
export const PAYLOAD_BYTES_MAX = 16 << 10;
export const HEADER_BYTES = 8;
/** Counted for each frame besides its payload, so that the number of frames in memory is bounded, too. */
const FRAME_CHARGE_BYTES = 256;
/** Left for `seq`, which is added when a message is numbered. */
const SEQ_BYTES = 32;

/** Methods of the link itself. Handlers cannot have them. */
export const LINK_METHODS = {
  hello: 'link.hello',
  refused: 'link.refused',
  ack: 'link.ack',
  cancel: 'link.cancel',
  open: 'link.open',
  reset: 'link.reset',
  credit: 'link.credit',
} as const;

/** The other side has broken the protocol: the link ends with this reason. */
export class Violation extends Error {}

export type JsonObject = Readonly<Record<string, unknown>>;

/** What a frame costs of the credit. */
export function chargeOf(payloadBytes: number): number {
  return payloadBytes + FRAME_CHARGE_BYTES;
}

/** Most bytes of a payload whose frame costs at most `credit`; not above PAYLOAD_BYTES_MAX, not below 0. */
export function payloadWithin(credit: number): number {
  return Math.max(0, Math.min(PAYLOAD_BYTES_MAX, credit - FRAME_CHARGE_BYTES));
}

/** A control message without its number. Throws RpcError `payload_too_large`; `internal` for what JSON cannot hold. */
export function toControlText(message: object): string {
  let text: string;
  try {
    text = JSON.stringify({ jsonrpc: '2.0', ...message });
  } catch (error) {
    throw new RpcError('internal', { cause: error });
  }
  const bytes = Buffer.byteLength(text);
  if (bytes <= CONTROL_BYTES_MAX - SEQ_BYTES) return text;
  throw new RpcError('payload_too_large', {
    message: `Payload too large: a control message of the link to the sandbox has at most ${CONTROL_BYTES_MAX} bytes`,
    data: { limit_bytes: CONTROL_BYTES_MAX },
  });
}

/** `text` as `toControlText` returns it. */
export function withSeq(text: string, seq: number): string {
  return `{"seq":${seq},${text.slice(1)}`;
}

/** What a text message holds; undefined: not JSON. */
export function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    return undefined;
  }
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** An integer from 0 on that a number holds exactly. */
export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}
