// Converts a binary WebSocket message (Frame of gateway.proto) to a call of `conversation.prompt`, and the events and
// the response of that call to Frames. The calls are processed like those of every transport.
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { z } from 'zod';
import { type Issue, RpcError, toRpcError, type WireError } from '../errors.ts';
import { METHODS, NOTIFICATIONS } from '../protocol.ts';
import { type Answers, MESSAGE_BYTES_MAX, notKept, tooLarge } from '../rpc/answers.ts';
import type { BadCall, Call } from '../rpc/envelope.ts';
import { overloaded } from '../rpc/in-flight.ts';
import { cutText } from '../rpc/notification.ts';
import { readMessage, toPromptParams, toReply, wrong } from './codec.ts';
import { FrameSchema } from './gateway_pb.ts';

/** Longer ids of a session or call are invalid, and are not repeated in the error. */
const NAME_CHARS_MAX = 128;

export interface FrameCall {
  /** The call, or the error of an invalid frame (RpcError `invalid_params`, `unavailable`). */
  readonly call: Call | BadCall;
  /** Serialises a notification of the call; undefined if it has no binary form. */
  toEvent(method: string, params: object): Uint8Array | undefined;
  /** Serialises the response as a frame of at most MESSAGE_BYTES_MAX. */
  answers(requestId: string): Answers<Uint8Array>;
}

type Body = MessageInitShape<typeof FrameSchema>['body'];
type Hold = (bytes: number) => boolean;

const Warning = z.object({ setting: z.string(), message: z.string() });
const EventParams = z.object({ seq: z.int(), event: z.record(z.string(), z.unknown()) });
/** The members of the result of `conversation.prompt` that a Reply contains. */
const Answer = z.object({
  content: z.string(),
  session_id: z.string(),
  conversation_id: z.string(),
  turn_id: z.string(),
  model: z.string(),
  timestamp: z.string(),
  usage: z.object({
    input_tokens: z.int(),
    output_tokens: z.int(),
    total_tokens: z.int(),
    cached_input_tokens: z.int().exactOptional(),
    reasoning_tokens: z.int().exactOptional(),
  }),
  events: z.array(z.record(z.string(), z.unknown())),
  message_seq: z.int().exactOptional(),
  warnings: z.array(Warning).exactOptional(),
  output: z.unknown().optional(),
});

/**
 * Never throws: an invalid message becomes a call with an error. `hold` counts the bytes that are kept until the
 * response is sent; it returns false above the bound of the instance.
 */
export function readFrame(bytes: Uint8Array, hold: Hold): FrameCall {
  let [id, streamId] = ['', ''];
  try {
    if (!hold(bytes.length)) throw overloaded();
    const frame = readMessage(FrameSchema, bytes, 'frame');
    const { body } = frame;
    streamId = frame.streamId.length > NAME_CHARS_MAX ? '' : frame.streamId;
    if (frame.id.length > NAME_CHARS_MAX) throw wrong('id', `must be at most ${NAME_CHARS_MAX} characters`);
    id = frame.id;
    if (body.case !== 'submission') throw wrong('frame', 'holds no submission (field 3)');
    const params = toPromptParams(frame.streamId, body.value);
    return toFrameCall({ id, method: METHODS.prompt, params }, streamId, hold);
  } catch (error) {
    return toFrameCall({ id, error: toRpcError(error) }, streamId, hold);
  }
}

function toFrameCall(call: Call | BadCall, streamId: string, hold: Hold): FrameCall {
  const id = String(call.id ?? '');
  const encode = (body: NonNullable<Body>): Uint8Array =>
    toBinary(FrameSchema, create(FrameSchema, { id, streamId, body }));
  return {
    call,
    toEvent(method, params) {
      const turnEvent = method === NOTIFICATIONS.turnEvent ? EventParams.safeParse(params).data : undefined;
      const [named] = Object.entries(turnEvent?.event ?? {});
      if (turnEvent === undefined || named === undefined) return undefined;
      const [name, payload] = named;
      const seq = BigInt(turnEvent.seq);
      const bytes = encode({ case: 'event', value: { name, json: JSON.stringify(payload), seq } });
      if (bytes.length <= MESSAGE_BYTES_MAX || typeof payload !== 'object') return bytes;
      return encode({ case: 'event', value: { name, json: cutText({ ...payload, truncated: true }), seq } });
    },
    answers: (requestId) => ({
      isFull: false,
      success(_, result) {
        const bytes = encode({ case: 'reply', value: toReply(Answer.parse(result)) });
        if (bytes.length > MESSAGE_BYTES_MAX) throw tooLarge(bytes.length, MESSAGE_BYTES_MAX);
        if (!hold(bytes.length)) throw notKept();
        return bytes;
      },
      failure: (_, error) => encode(toErrorBody(withFrameNames(error).toWire(requestId))),
    }),
  };
}

function toErrorBody({ code, message, data }: WireError): NonNullable<Body> {
  const { reason, retryable, retry_after_ms: retryAfterMs } = data;
  const value = { code, reason, message, retryable, dataJson: toJson(data) };
  return { case: 'error', value: { ...value, ...(retryAfterMs !== undefined && { retryAfterMs }) } };
}

/** Details that JSON cannot represent are left out. */
function toJson({ reason, request_id, retryable, ...rest }: WireError['data']): string {
  try {
    return JSON.stringify({ ...rest, reason, request_id, retryable });
  } catch {
    return JSON.stringify({ reason, request_id, retryable });
  }
}

/** Renames `session_id` to `stream_id` in the issues about params, because a frame has that name. */
function withFrameNames(error: RpcError): RpcError {
  const { issues } = error.data;
  if (error.reason !== 'invalid_params' || !Array.isArray(issues)) return error;
  const named = issues.map(({ path, message }: Issue) =>
    path === 'session_id'
      ? { path: 'stream_id', message: message.replace('session_id', 'stream_id') }
      : { path, message },
  );
  return new RpcError('invalid_params', { data: { ...error.data, issues: named } });
}
