// Serialises the responses of one request within the byte limit of its transport. If the result of a call cannot be
// serialised or does not fit, only that call returns an error; the other responses of a batch stay.
import { RpcError } from '../errors.ts';
import type { Id } from './envelope.ts';
import { type CallMemory, overloaded } from './in-flight.ts';
import { stringifyInSlices } from './json/json-slices.ts';

/**
 * Most bytes of an HTTP response, for one call or for a whole batch; several larger ones at a time would exhaust the
 * memory.
 */
export const HTTP_ANSWER_BYTES_MAX = 8 << 20;
/** Most bytes of a WebSocket message, in both directions. */
export const MESSAGE_BYTES_MAX = 1 << 20;
/** Reserved for each call of a batch without a response yet: the bytes of an error with the longest id. */
const RESERVED_BYTES = 2 << 10;

/** `Message`: JSON text, or the message type of a binary transport. */
export interface Answers<Message = string> {
  /**
   * The response with a result. Throws RpcError `internal` if JSON cannot represent the result, `payload_too_large` if
   * it does not fit, `unavailable` if the call only reads and the instance has no memory for its response.
   */
  success(id: Id, result: unknown, isRead: boolean, text?: string): Message;
  /** The text of a large response, made in slices of time, for `success`. Rejects as `success` throws. */
  serialize?(id: Id, result: unknown): Promise<string>;
  /** True after a response did not fit: another page of a list would not fit either. */
  readonly isFull: boolean;
  /** The response with an error; details that do not fit are left out. */
  failure(id: Id, error: RpcError): Message;
}

/**
 * `answered`: number of calls that share `bytesMax`. `hold` counts bytes that the instance keeps until they are sent;
 * it returns false above its bound.
 */
export function createAnswers(
  requestId: string,
  bytesMax: number,
  answered: number,
  hold: (bytes: number) => boolean,
): Answers {
  let waiting = answered;
  /** 2 bytes are for the brackets of a batch. */
  let leftBytes = bytesMax - 2;

  /** Counts the text and the comma after it, if they fit together with the reserved bytes of the pending calls. */
  function fits(text: string): boolean {
    const bytes = Buffer.byteLength(text) + 1;
    if (bytes > leftBytes - (waiting - 1) * RESERVED_BYTES) return false;
    leftBytes -= bytes;
    waiting--;
    return true;
  }

  // A plain member: a getter would take as long as all the rest of this function.
  const answers = {
    isFull: false,
    async serialize(id: Id, result: unknown) {
      try {
        return await stringifyInSlices(toResponse(id, result));
      } catch (error) {
        throw new RpcError('internal', { cause: error });
      }
    },
    success(id: Id, result: unknown, isRead: boolean, text = toText(toResponse(id, result))) {
      if (!hold(text.length)) throw isRead ? overloaded() : notKept();
      if (fits(text)) return text;
      answers.isFull = true;
      throw tooLarge(Buffer.byteLength(text), bytesMax);
    },
    failure(id: Id, error: RpcError) {
      const text = failureText(id, error, requestId);
      if (fits(text)) return text;
      const { reason, retryable, retryAfterMs } = error;
      const short = new RpcError(reason, { retryable, ...(retryAfterMs !== undefined && { retryAfterMs }) });
      const shortText = failureText(id, short, requestId);
      fits(shortText);
      return shortText;
    },
  };
  return answers;
}

/** The error of a call that has run, but whose response has `bytes` bytes, more than the limit. */
export function tooLarge(bytes: number, bytesMax: number): RpcError {
  return new RpcError('payload_too_large', {
    message:
      `Payload too large: the call has run and its effect is stored, but its response of ${bytes} bytes does not ` +
      `fit into the ${bytesMax} bytes of the whole response; request less, or send the call alone over HTTP`,
    data: { limit_bytes: bytesMax, answer_bytes: bytes, carried_out: true },
  });
}

/** The error of a read that was not run, because the earlier responses of the batch have used the byte limit. */
export function noRoom(): RpcError {
  return new RpcError('payload_too_large', {
    message:
      'Payload too large: the earlier responses have used up the bytes of the batch, and this call was not run; ' +
      'send it again in another request',
    data: { carried_out: false },
  });
}

/**
 * The error of a call that has run, but for whose response the instance has no memory. Not retryable: a retry would
 * repeat the effect.
 */
export function notKept(): RpcError {
  return new RpcError('payload_too_large', {
    message:
      'Payload too large: the call has run and its effect is stored, but the instance has no memory left for its ' +
      'response',
    data: { carried_out: true },
  });
}

/**
 * Like `memory.place`, for a call whose effect is already stored: the error is not retryable, so that the caller does
 * not repeat the effect.
 */
export async function placeAnswer(memory: CallMemory, signal: AbortSignal): Promise<void> {
  try {
    await memory.place();
  } catch (error) {
    throw signal.aborted ? error : notKept();
  }
}

/** The response with an error as JSON text; details that JSON cannot represent are left out. */
export function failureText(id: Id, error: RpcError, requestId: string): string {
  try {
    return JSON.stringify({ jsonrpc: '2.0', error: error.toWire(requestId), id });
  } catch {
    const { reason, message } = error;
    return JSON.stringify({ jsonrpc: '2.0', error: new RpcError(reason, { message }).toWire(requestId), id });
  }
}

function toResponse(id: Id, result: unknown): object {
  return { jsonrpc: '2.0', result: result === undefined ? null : result, id };
}

/** Throws RpcError `internal` for a cycle, a BigInt, a `toJSON` that throws, or nesting beyond the stack. */
function toText(response: object): string {
  try {
    return JSON.stringify(response);
  } catch (error) {
    throw new RpcError('internal', { cause: error });
  }
}
