// The message format of a link. A control message is JSON text, numbered by `seq` except for acknowledgements and the
// first messages. A data frame is binary: `stream` (u32), `seq` (u32, the lower 32 bits of the number), payload. An
// empty payload ends the stream in this direction.
import { RpcError } from '../../errors.ts';
import { CONTROL_BYTES_MAX } from './link.ts';

/** Maximum payload of one data frame. Other streams wait while it is sent. */
export const PAYLOAD_BYTES_MAX = 16 << 10;
export const HEADER_BYTES = 8;
/** Credit that each frame uses in addition to its payload, so that the number of frames in memory is bounded, too. */
const FRAME_CHARGE_BYTES = 256;
/** Reserved for `seq`, which is added when a message is numbered. */
const SEQ_BYTES = 32;

/** Methods of the link itself. Handlers must not use these names. */
export const LINK_METHODS = {
  hello: 'link.hello',
  refused: 'link.refused',
  ack: 'link.ack',
  cancel: 'link.cancel',
  open: 'link.open',
  reset: 'link.reset',
  credit: 'link.credit',
} as const;

/** The other side has violated the protocol. The link ends with the message as reason. */
export class Violation extends Error {}

/** Returns the credit that a frame uses. */
export function chargeOf(payloadBytes: number): number {
  return payloadBytes + FRAME_CHARGE_BYTES;
}

/** Returns the maximum payload of a frame that uses at most `credit`; between 0 and PAYLOAD_BYTES_MAX. */
export function payloadWithin(credit: number): number {
  return Math.max(0, Math.min(PAYLOAD_BYTES_MAX, credit - FRAME_CHARGE_BYTES));
}

/**
 * Returns a control message without its number. Throws RpcError `payload_too_large`, and `internal` for a value that
 * cannot be serialized.
 */
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

/** `text` is a result of `toControlText`. */
export function withSeq(text: string, seq: number): string {
  return `{"seq":${seq},${text.slice(1)}`;
}

/** Returns the value of a text message; undefined: it is not JSON. */
export function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    return undefined;
  }
}

/** Whether the value is a safe integer that is not negative. */
export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}
