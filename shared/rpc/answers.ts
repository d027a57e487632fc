// The answers of one request as JSON text, within the bytes that its transport carries. Serialising is part of a call:
// what cannot be serialised, or does not fit any more, is that call's error, and the other calls of the request keep
// their answers.
import { RpcError } from '../errors.ts';
import type { Id } from './envelope.ts';
import { type CallMemory, overloaded } from './in-flight.ts';

/**
 * Most bytes of an answer over HTTP, one call or all of a batch; larger ones, sent side by side, would use up the
 * memory.
 */
export const HTTP_ANSWER_BYTES_MAX = 8 << 20;
/** Most bytes of a WebSocket message, in both directions. */
export const MESSAGE_BYTES_MAX = 1 << 20;
/** Kept free for each call of a batch that has no answer yet: an error with the longest id. */
const RESERVED_BYTES = 2 << 10;

/** `Message`: JSON text, or what a binary transport sends. */
export interface Answers<Message = string> {
  /**
   * The response with a result. Throws RpcError `internal` for what JSON cannot hold, `payload_too_large` for what does
   * not fit; a read that the instance has no memory for is `unavailable`.
   */
  success(id: Id, result: unknown, isRead: boolean): Message;
  /** Whether an answer has not fitted: a page of a list will not either. */
  readonly isFull: boolean;
  /** The response with an error; without its details where they do not fit. */
  failure(id: Id, error: RpcError): Message;
}

/**
 * `answered`: how many calls share the bytes. `hold` counts what the instance keeps until it is sent; false when that
 * is too much.
 */
export function createAnswers(
  requestId: string,
  bytesMax: number,
  answered: number,
  hold: (bytes: number) => boolean,
): Answers {
  let waiting = answered;
  /** Without the brackets of a batch. */
  let leftBytes = bytesMax - 2;
  let isFull = false;

  /** Counts the text, with the comma behind it, when it fits beside the errors that may still come. */
  function fits(text: string): boolean {
    const bytes = Buffer.byteLength(text) + 1;
    if (bytes > leftBytes - (waiting - 1) * RESERVED_BYTES) return false;
    leftBytes -= bytes;
    waiting--;
    return true;
  }

  return {
    get isFull() {
      return isFull;
    },
    success(id, result, isRead) {
      const text = toText({ jsonrpc: '2.0', result: result === undefined ? null : result, id });
      if (!hold(text.length)) throw isRead ? overloaded() : notKept();
      if (fits(text)) return text;
      isFull = true;
      throw tooLarge(Buffer.byteLength(text), bytesMax);
    },
    failure(id, error) {
      const text = failureText(id, error, requestId);
      if (fits(text)) return text;
      const { reason, retryable, retryAfterMs } = error;
      const short = new RpcError(reason, { retryable, ...(retryAfterMs !== undefined && { retryAfterMs }) });
      const shortText = failureText(id, short, requestId);
      fits(shortText);
      return shortText;
    },
  };
}

/** The call has run, and its answer of `bytes` is more than may be sent. */
export function tooLarge(bytes: number, bytesMax: number): RpcError {
  return new RpcError('payload_too_large', {
    message:
      `Payload too large: the call was carried out and its effect stands, but its answer of ${bytes} bytes ` +
      'does not fit into ' +
      `the ${bytesMax} bytes of the whole answer; ask for less, or send the call by itself over HTTP`,
    data: { limit_bytes: bytesMax, answer_bytes: bytes, carried_out: true },
  });
}

/** A read that was not run, because its answer would find no room behind those of the calls before it. */
export function noRoom(): RpcError {
  return new RpcError('payload_too_large', {
    message:
      'Payload too large: the answers before this one have used up the bytes of the batch, and the call was not run',
    data: { carried_out: false },
  });
}

/** The call has run, and the instance has no memory for its answer: it must not be repeated for that reason. */
export function notKept(): RpcError {
  return new RpcError('payload_too_large', {
    message:
      'Payload too large: the call was carried out and its effect stands, but the instance holds too many ' +
      'answers to keep this one',
    data: { carried_out: true },
  });
}

/**
 * As `memory.place`, for a call that has had its effect: that its answer finds no place must not make the caller repeat
 * it.
 */
export async function placeAnswer(memory: CallMemory, signal: AbortSignal): Promise<void> {
  try {
    await memory.place();
  } catch (error) {
    throw signal.aborted ? error : notKept();
  }
}

/** The response with an error as JSON text; details that JSON cannot hold are left out. */
export function failureText(id: Id, error: RpcError, requestId: string): string {
  try {
    return JSON.stringify({ jsonrpc: '2.0', error: error.toWire(requestId), id });
  } catch {
    const { reason, message } = error;
    return JSON.stringify({ jsonrpc: '2.0', error: new RpcError(reason, { message }).toWire(requestId), id });
  }
}

/** Throws RpcError `internal` for a cycle, a BigInt, a `toJSON` that throws, or nesting beyond the stack. */
function toText(response: object): string {
  try {
    return JSON.stringify(response);
  } catch (error) {
    throw new RpcError('internal', { cause: error });
  }
}
