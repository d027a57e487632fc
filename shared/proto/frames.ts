// A binary WebSocket message (Frame of gateway.proto) as an ordinary JSON-RPC call of method `proto`, and what comes of
// that call as Frames again. No rule of a call is made here a second time.

import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { z } from 'zod';
import { type RpcError, toRpcError } from '../errors.ts';
import { NOTIFICATIONS } from '../protocol.ts';
import { failureText, MESSAGE_BYTES_MAX, tooLarge } from '../rpc/answers.ts';
import { cutText } from '../rpc/notification.ts';
import { readMessage, wrong } from './codec.ts';
import { FrameSchema, ReplySchema, SubmissionSchema } from './gateway_pb.ts';

/** A longer name than any session or call may have is not repeated to its sender. */
const NAME_CHARS_MAX = 128;

export interface FrameCall {
  /** The JSON-RPC request, or why there is none (RpcError `invalid_params`). */
  readonly body: Uint8Array | RpcError;
  /** A notification of the call; undefined for one that has no binary form. */
  toEvent(method: string, params: object): Uint8Array | undefined;
  /**
   * The JSON-RPC response to the call, given as text; one that makes a frame above MESSAGE_BYTES_MAX becomes
   * `payload_too_large`.
   */
  toAnswer(text: string, requestId: string): Uint8Array;
}

const EventParams = z.object({ seq: z.int(), event: z.record(z.string(), z.unknown()) });
const Answer = z.union([
  z.object({ result: z.object({ data: z.string() }) }),
  z.object({
    error: z.object({
      code: z.int(),
      message: z.string(),
      data: z.looseObject({ reason: z.string(), retryable: z.boolean(), retry_after_ms: z.int().optional() }),
    }),
  }),
]);

/** Never throws: what cannot be read becomes the body that is refused. */
export function readFrame(bytes: Uint8Array): FrameCall {
  try {
    const { id, streamId, body } = readMessage(FrameSchema, bytes, 'frame');
    const name = id.length > NAME_CHARS_MAX ? '' : id;
    const session = streamId.length > NAME_CHARS_MAX ? '' : streamId;
    if (name !== id) return toCall(name, session, wrong('id', `must be at most ${NAME_CHARS_MAX} characters`));
    if (body.case !== 'submission') return toCall(name, session, wrong('frame', 'holds no submission (field 3)'));
    const data = Buffer.from(toBinary(SubmissionSchema, body.value)).toString('base64');
    const request = { jsonrpc: '2.0', method: 'proto', params: { stream_id: streamId, data }, id };
    return toCall(name, session, Buffer.from(JSON.stringify(request)));
  } catch (error) {
    return toCall('', '', toRpcError(error));
  }
}

function toCall(id: string, streamId: string, body: Uint8Array | RpcError): FrameCall {
  const encode = (content: MessageInitShape<typeof FrameSchema>['body']): Uint8Array =>
    toBinary(FrameSchema, create(FrameSchema, { id, streamId, ...(content && { body: content }) }));
  return {
    body,
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
    toAnswer(text, requestId) {
      const answer = Answer.parse(JSON.parse(text));
      if ('result' in answer) {
        const value = fromBinary(ReplySchema, Buffer.from(answer.result.data, 'base64'));
        const bytes = encode({ case: 'reply', value });
        if (bytes.length <= MESSAGE_BYTES_MAX) return bytes;
        return this.toAnswer(failureText(id, tooLarge(bytes.length, MESSAGE_BYTES_MAX), requestId), requestId);
      }
      const { code, message, data } = answer.error;
      const { reason, retryable, retry_after_ms: retryAfterMs } = data;
      const value = { code, reason, message, retryable, dataJson: JSON.stringify(data) };
      return encode({ case: 'error', value: { ...value, ...(retryAfterMs !== undefined && { retryAfterMs }) } });
    },
  };
}
