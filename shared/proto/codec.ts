// Converts the protobuf messages (gateway.proto) to the params of `conversation.prompt`, and its result to messages.
// Encoding is deterministic: fields in order of their numbers, no unknown fields, JSON payloads as they are stored.
import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from '@bufbuild/protobuf';
import type { PromptAnswer } from '../conversations/turns/end/answer.ts';
import { RpcError } from '../errors.ts';
import { parseJson } from '../rpc/parse.ts';
import { OnBusy, type Reply, ReplySchema, type Settings, type Submission, SubmissionSchema } from './gateway_pb.ts';

/** Params of `conversation.prompt`, wire names. */
export type PromptParams = Readonly<Record<string, unknown>>;

const ON_BUSY = new Map<number, string | undefined>([
  [OnBusy.UNSPECIFIED, undefined],
  [OnBusy.REJECT, 'reject'],
  [OnBusy.QUEUE, 'queue'],
  [OnBusy.INTERRUPT, 'interrupt'],
]);

/**
 * Decodes the base64 (RFC 4648 section 4, padded) of a Submission. Throws RpcError `invalid_params` with the reason.
 */
export function decodeSubmission(base64: string): Submission {
  if (base64.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(base64)) throw wrong('data', 'is not base64');
  return readMessage(SubmissionSchema, Buffer.from(base64, 'base64'), 'data');
}

/** Decodes a message; ignores unknown fields. Throws RpcError `invalid_params` about `path`, with the reason. */
export function readMessage<Desc extends DescMessage>(
  schema: Desc,
  bytes: Uint8Array,
  path: string,
): MessageShape<Desc> {
  try {
    return fromBinary(schema, bytes, { readUnknownFields: false });
  } catch (error) {
    const reason = error instanceof Error ? error.message.slice(0, 100) : 'unreadable';
    throw wrong(path, `is not a protobuf ${schema.name}: ${reason}`);
  }
}

/** Converts a Submission to params of `conversation.prompt`, which the schema of that method must validate. */
export function toPromptParams(streamId: string, submission: Submission): PromptParams {
  if (submission.prompt === '' && submission.parts.length === 0) throw wrong('data', 'the prompt (field 1) is empty');
  if (!ON_BUSY.has(submission.onBusy)) throw wrong('data', 'on_busy (field 4) has an unknown value');
  const given = {
    model: submission.model,
    instructions: submission.instructions,
    on_busy: ON_BUSY.get(submission.onBusy) ?? '',
    idempotency_key: submission.idempotencyKey,
    auth_session_id: submission.authSessionId,
  };
  return {
    prompt: submission.parts.length === 0 ? submission.prompt : toParts(submission),
    session_id: streamId,
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== '')),
    ...(submission.afterSeq !== undefined && { after_seq: submission.afterSeq }),
    ...(submission.fallbacks.length > 0 && { fallbacks: submission.fallbacks }),
    ...(submission.outputSchemaJson !== '' && { output_schema: parseSchema(submission.outputSchemaJson) }),
    ...(submission.settings !== undefined && { settings: toSettings(submission.settings) }),
  };
}

/** A part of a kind that a newer client has added is an empty text, which the schema refuses or leaves out. */
function toParts({ prompt, parts }: Submission): readonly object[] {
  const rest = parts.map(({ part }) => {
    if (part.case !== 'image') return { type: 'text', text: part.value ?? '' };
    const { mediaType, data } = part.value;
    return { type: 'image', media_type: mediaType, data: Buffer.from(data).toString('base64') };
  });
  return [...(prompt === '' ? [] : [{ type: 'text', text: prompt }]), ...rest];
}

/** By the rules for JSON in a request. */
function parseSchema(json: string): unknown {
  try {
    return parseJson(Buffer.from(json));
  } catch (error) {
    const detail = error instanceof RpcError && error.reason === 'invalid_request' ? error.data.detail : undefined;
    throw wrong('data.output_schema', typeof detail === 'string' ? `is not accepted: ${detail}` : 'is not JSON');
  }
}

function toSettings({ temperature, topP, maxOutputTokens, stop, seed, reasoning }: Settings): object {
  const given = {
    temperature,
    top_p: topP,
    max_output_tokens: maxOutputTokens,
    seed,
    reasoning: reasoning || undefined,
  };
  return {
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
    ...(stop.length > 0 && { stop }),
  };
}

/** The members of the result of `conversation.prompt` that a Reply contains. */
export type ReplyFields = Pick<
  PromptAnswer,
  'content' | 'session_id' | 'conversation_id' | 'turn_id' | 'model' | 'timestamp' | 'usage' | 'output' | 'message_seq'
> & {
  readonly events: readonly object[];
  readonly warnings?: readonly { readonly setting: string; readonly message: string }[];
};

/** Converts the answer to a prompt to a Reply. */
export function toReply(answer: ReplyFields): Reply {
  return create(ReplySchema, {
    content: answer.content,
    sessionId: answer.session_id,
    conversationId: answer.conversation_id,
    turnId: answer.turn_id,
    model: answer.model,
    timestamp: answer.timestamp,
    usage: {
      inputTokens: BigInt(answer.usage.input_tokens),
      outputTokens: BigInt(answer.usage.output_tokens),
      totalTokens: BigInt(answer.usage.total_tokens),
      cachedInputTokens: BigInt(answer.usage.cached_input_tokens ?? 0),
      reasoningTokens: BigInt(answer.usage.reasoning_tokens ?? 0),
    },
    events: answer.events.flatMap((event) =>
      Object.entries(event).map(([name, payload]) => ({ name, json: JSON.stringify(payload) })),
    ),
    messageSeq: answer.message_seq ?? 0,
    outputJson: answer.output === undefined ? '' : JSON.stringify(answer.output),
    warnings: (answer.warnings ?? []).map(({ setting, message }) => ({ setting, message })),
  });
}

/** The bytes of a Reply. */
export function encodeReply(answer: ReplyFields): Uint8Array {
  return toBinary(ReplySchema, toReply(answer));
}

/** The error about an invalid param. */
export function wrong(path: string, message: string): RpcError {
  return new RpcError('invalid_params', { data: { issues: [{ path, message }] } });
}
