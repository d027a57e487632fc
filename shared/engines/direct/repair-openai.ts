// The Responses stream of OpenAI and of compatible servers (llama.cpp, LM Studio, vLLM, Ollama), which omit members
// that the SDK requires: `created_at`, `model`, `output_index`, ids, deltas. Missing members are filled in; text that
// arrives only at the end of a part, an item or the response becomes the missing delta.
import { type EventRepair, isJson, type Json, NotAStream, startsWith } from './stream-repair.ts';

const ITEMS: ReadonlySet<unknown> = new Set(['message', 'reasoning', 'function_call']);

const TEXT = Buffer.from('data: {"type":"response.output_text.delta",');
/** Without them, the SDK would mistake a delta for a later one, or lack its place. */
const HAS_PLACE = Buffer.from('"item_id":"');
const NO_TEXT = Buffer.from('"delta":""');
const LOGPROBS = Buffer.from('"logprobs":[{');

export function createOpenAiRepair(): EventRepair {
  const indexes = new Map<unknown, number>();
  let itemId = 'item_0';
  let hasPartText = false;
  let hasItemText = false;
  let hasText = false;
  let itemsDone = 0;

  const indexOf = (id: unknown): number => {
    const index = indexes.get(id) ?? indexes.size;
    indexes.set(id, index);
    return index;
  };
  const place = (event: Json): Json => {
    const item_id = typeof event.item_id === 'string' ? event.item_id : itemId;
    const output_index = typeof event.output_index === 'number' ? event.output_index : indexOf(item_id);
    return { ...event, item_id, output_index };
  };
  const toDelta = (delta: string): readonly Json[] => {
    hasPartText = hasItemText = hasText = true;
    return [{ type: 'response.output_text.delta', item_id: itemId, delta }];
  };
  const toRefusal = (delta: string): readonly Json[] => {
    hasItemText = hasText = true;
    return delta === '' ? [] : [{ type: 'response.refusal.delta', item_id: itemId, delta }];
  };
  /** The text of a message item, or why the model declines, as the events that were left out. */
  const toDeltas = ({ content }: Json): readonly Json[] => {
    if (typeof content === 'string' && content !== '') return toDelta(content);
    if (!Array.isArray(content)) return [];
    return content.filter(isJson).flatMap(({ type, text, refusal }) => {
      if ((type === 'output_text' || type === 'text') && typeof text === 'string' && text !== '') return toDelta(text);
      if (type !== 'refusal' || typeof refusal !== 'string') return [];
      return [...toRefusal(refusal), { type: 'response.refusal.done', item_id: itemId, refusal }];
    });
  };
  const toItem = (event: Json, item: Json): Json => {
    const isNew = event.type === 'response.output_item.added';
    if (typeof item.id === 'string') itemId = item.id;
    else if (isNew) itemId = `item_${indexes.size}`;
    const output_index = typeof event.output_index === 'number' ? event.output_index : indexOf(itemId);
    indexes.set(itemId, output_index);
    return { type: event.type, output_index, item: { ...completeItem(item), id: itemId } };
  };

  const isPlain = (line: Buffer): boolean => {
    if (!startsWith(line, TEXT) || !line.includes(HAS_PLACE)) return false;
    if (line.includes(NO_TEXT) || line.includes(LOGPROBS)) return false;
    hasPartText = hasItemText = hasText = true;
    return true;
  };

  const repair: EventRepair['repair'] = (event) => {
    const { type } = event;
    switch (type) {
      case 'response.created':
      case 'response.in_progress': {
        const { id, created_at, model } = isJson(event.response) ? event.response : {};
        const response = { id: toText(id, 'resp_0'), created_at: toNumber(created_at), model: toText(model, '') };
        return [{ type, response }];
      }
      case 'response.output_item.added': {
        if (!isJson(event.item) || !ITEMS.has(event.item.type)) return [];
        hasPartText = hasItemText = false;
        return [toItem(event, event.item)];
      }
      case 'response.output_text.delta':
        if (typeof event.delta !== 'string') return [];
        if (event.delta !== '') hasPartText = hasItemText = hasText = true;
        return typeof event.item_id === 'string' && isEmpty(event.logprobs)
          ? undefined
          : [{ ...place(event), logprobs: null }];
      case 'response.output_text.done': {
        const missing = !hasPartText && typeof event.text === 'string' && event.text !== '' ? toDelta(event.text) : [];
        hasPartText = false;
        return missing;
      }
      case 'response.content_part.done': {
        if (hasItemText || !isJson(event.part)) return [];
        return toDeltas({ content: [event.part] });
      }
      case 'response.output_item.done': {
        if (!isJson(event.item) || !ITEMS.has(event.item.type)) return [];
        const item = toItem(event, event.item);
        const missing = event.item.type === 'message' && !hasItemText ? toDeltas(event.item) : [];
        itemsDone++;
        return [...missing, item];
      }
      case 'response.done': {
        // The end of every kind, as some servers write it.
        const { status } = isJson(event.response) ? event.response : {};
        const ending = status === 'failed' || status === 'incomplete' ? status : 'completed';
        return repair({ ...event, type: `response.${ending}` });
      }
      case 'response.completed':
      case 'response.incomplete': {
        const response = isJson(event.response) ? event.response : {};
        return [...lateItems(response), { type, response: completeResponse(response) }];
      }
      case 'response.failed': {
        const response = isJson(event.response) ? event.response : {};
        const error = toError(response.error) ?? { message: 'the response failed without a reason' };
        return [{ type, sequence_number: 0, response: { ...completeResponse(response), error } }];
      }
      case 'error':
        return [
          { type, sequence_number: 0, ...(toError(event.error) ?? toError(event) ?? { message: 'no reason given' }) },
        ];
      case 'response.refusal.delta':
        hasItemText = hasText = true;
        return [place(event)];
      case 'response.refusal.done': {
        const missing = hasItemText || typeof event.refusal !== 'string' ? [] : toRefusal(event.refusal);
        return [...missing, place(event)];
      }
      case 'response.function_call_arguments.delta':
      case 'response.function_call_arguments.done':
        return [place(event)];
      case 'response.reasoning_summary_part.added':
      case 'response.reasoning_summary_text.delta':
      case 'response.reasoning_summary_part.done':
        return [{ summary_index: 0, ...place(event) }];
      case undefined: {
        const error = toError(event.error);
        if (error !== undefined) return [{ type: 'error', sequence_number: 0, ...error }];
        if (Array.isArray(event.choices)) throw new NotAStream('{}', 'a stream of chat completions');
        return undefined;
      }
      default:
        return [];
    }
  };
  return { isPlain, repair };

  /** What the response holds at its end and no event before it has brought. */
  function lateItems({ output }: Json): Json[] {
    if (!Array.isArray(output)) return [];
    const items = output.filter(isJson).filter((item) => ITEMS.has(item.type) && item.type !== 'reasoning');
    return items.flatMap((item): readonly Json[] => {
      if (item.type === 'message') return hasText ? [] : toDeltas(item);
      return itemsDone > 0 ? [] : [toItem({ type: 'response.output_item.done' }, item)];
    });
  }
}

function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || (Array.isArray(value) && value.length === 0);
}

function completeItem(item: Json): Json {
  const { type } = item;
  if (type === 'message') return { type };
  if (type === 'reasoning') return { type, encrypted_content: item.encrypted_content };
  const { call_id = item.id ?? 'call_0', name = '', arguments: args = '' } = item;
  return {
    type,
    call_id,
    name,
    arguments: typeof args === 'string' ? args : JSON.stringify(args),
    status: 'completed',
  };
}

function completeResponse({ incomplete_details, usage }: Json): Json {
  const { reason } = isJson(incomplete_details) ? incomplete_details : {};
  return {
    incomplete_details: typeof reason === 'string' ? { reason } : null,
    usage: isJson(usage) ? toUsage(usage) : null,
  };
}

function toUsage(usage: Json): Json {
  const { input_tokens = usage.prompt_tokens, output_tokens = usage.completion_tokens } = usage;
  const { input_tokens_details: cached } = usage;
  const { cached_tokens } = isJson(cached) ? cached : {};
  return {
    input_tokens: toNumber(input_tokens),
    output_tokens: toNumber(output_tokens),
    ...(typeof cached_tokens === 'number' && { input_tokens_details: { cached_tokens } }),
  };
}

function toText(value: unknown, otherwise: string): string {
  return typeof value === 'string' ? value : otherwise;
}

function toNumber(value: unknown): number {
  return typeof value === 'number' ? value : 0;
}

/** An error event's reason, nested or not; the code of some servers is a number. */
function toError(value: unknown): Json | undefined {
  if (typeof value === 'string') return { message: value };
  if (!isJson(value) || typeof value.message !== 'string') return undefined;
  const { code, message } = value;
  return { message, ...(code !== undefined && code !== null && { code: String(code) }) };
}
