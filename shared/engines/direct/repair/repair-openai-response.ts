// Completes the members of a Responses stream that concern the whole response: its beginning, its end, and errors.
import { isObject, type JsonObject } from '../../../json/json-object.ts';

/** The response in the first events of a stream. */
export function toBeginning(response: unknown): JsonObject {
  const { id, created_at, model } = isObject(response) ? response : {};
  return { id: toText(id, 'resp_0'), created_at: toNumber(created_at), model: toText(model, '') };
}

/** The last event of a stream. `type`: as sent by the server. */
export function toEnd(type: string, response: JsonObject): JsonObject {
  const end = type === 'response.done' ? endOf(response) : type;
  const complete = completeResponse(response);
  if (end !== 'response.failed') return { type: end, response: complete };
  const error = toError(response.error) ?? { message: 'the response failed without a reason' };
  return { type: end, sequence_number: 0, response: { ...complete, error } };
}

/** Some servers send `response.done` for every kind of end. */
function endOf({ status }: JsonObject): string {
  return `response.${status === 'failed' || status === 'incomplete' ? status : 'completed'}`;
}

export function hasError({ error }: JsonObject): boolean {
  return toError(error) !== undefined;
}

/** The error is nested in `error`, or the event itself. */
export function toErrorEvent(event: JsonObject): JsonObject {
  const error = toError(event.error) ?? toError(event) ?? { message: 'no reason given' };
  return { type: 'error', sequence_number: 0, ...error };
}

function completeResponse({ incomplete_details, usage }: JsonObject): JsonObject {
  const { reason } = isObject(incomplete_details) ? incomplete_details : {};
  return {
    incomplete_details: typeof reason === 'string' ? { reason } : null,
    usage: isObject(usage) ? toUsage(usage) : null,
  };
}

function toUsage(usage: JsonObject): JsonObject {
  const { input_tokens = usage.prompt_tokens, output_tokens = usage.completion_tokens } = usage;
  const { input_tokens_details: input, output_tokens_details: output } = usage;
  const { cached_tokens } = isObject(input) ? input : {};
  const { reasoning_tokens } = isObject(output) ? output : {};
  return {
    input_tokens: toNumber(input_tokens),
    output_tokens: toNumber(output_tokens),
    ...(typeof cached_tokens === 'number' && { input_tokens_details: { cached_tokens } }),
    ...(typeof reasoning_tokens === 'number' && { output_tokens_details: { reasoning_tokens } }),
  };
}

function toText(value: unknown, otherwise: string): string {
  return typeof value === 'string' ? value : otherwise;
}

function toNumber(value: unknown): number {
  return typeof value === 'number' ? value : 0;
}

/** The code of some servers is a number. */
function toError(value: unknown): JsonObject | undefined {
  if (typeof value === 'string') return { message: value };
  if (!isObject(value) || typeof value.message !== 'string') return undefined;
  const { code, message } = value;
  return { message, ...(code !== undefined && code !== null && { code: String(code) }) };
}
