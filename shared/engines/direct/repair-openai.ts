// The Responses stream of OpenAI and of compatible servers (llama.cpp, LM Studio, vLLM, Ollama), which omit members
// that the SDK requires: `created_at`, `model`, `output_index`, ids, deltas. Missing members are filled in; text that
// arrives only at the end of a part, an item or the response becomes the missing delta.
import { createItemPlaces, createItemTexts, isItem } from './repair-openai-items.ts';
import { type EventRepair, isJson, type Json, NotAStream, startsWith } from './stream-repair.ts';

const TEXT = Buffer.from('data: {"type":"response.output_text.delta",');
/** A delta without an item id must be completed, and one with empty text or log probabilities must be parsed. */
const HAS_PLACE = Buffer.from('"item_id":"');
const NO_TEXT = Buffer.from('"delta":""');
const LOGPROBS = Buffer.from('"logprobs":[{');

export function createOpenAiRepair(): EventRepair {
  const places = createItemPlaces();
  const texts = createItemTexts(places);
  let itemsDone = 0;

  return { isPlain, repair };

  function isPlain(line: Buffer): boolean {
    if (!startsWith(line, TEXT) || !line.includes(HAS_PLACE)) return false;
    if (line.includes(NO_TEXT) || line.includes(LOGPROBS)) return false;
    texts.sent();
    return true;
  }

  function repair(event: Json): readonly Json[] | undefined {
    const { type } = event;
    switch (type) {
      case 'response.created':
      case 'response.in_progress':
        return [{ type, response: toBeginning(event.response) }];
      case 'response.output_item.added':
      case 'response.output_item.done':
        return isItem(event.item) ? repairItem(event, event.item) : [];
      case 'response.output_text.delta':
        return repairText(event);
      case 'response.output_text.done':
        return texts.missingOfPart(event.text);
      case 'response.content_part.done':
        return isJson(event.part) ? texts.missingOfItem({ content: [event.part] }) : [];
      case 'response.refusal.delta':
        texts.refusalSent();
        return [places.place(event)];
      case 'response.refusal.done':
        return [...texts.missingOfRefusal(event.refusal), places.place(event)];
      case 'response.function_call_arguments.delta':
      case 'response.function_call_arguments.done':
        return [places.place(event)];
      case 'response.reasoning_summary_part.added':
      case 'response.reasoning_summary_text.delta':
      case 'response.reasoning_summary_part.done':
        return [{ summary_index: 0, ...places.place(event) }];
      case 'response.done':
      case 'response.completed':
      case 'response.incomplete':
      case 'response.failed':
        return repairEnd(type, isJson(event.response) ? event.response : {});
      case 'error':
        return [toErrorEvent(toError(event.error) ?? toError(event) ?? { message: 'no reason given' })];
      case undefined: {
        const error = toError(event.error);
        if (error !== undefined) return [toErrorEvent(error)];
        if (Array.isArray(event.choices)) throw new NotAStream('{}', 'a stream of chat completions');
        return undefined;
      }
      default:
        return [];
    }
  }

  function repairItem(event: Json, item: Json): readonly Json[] {
    const isNew = event.type === 'response.output_item.added';
    if (isNew) texts.itemBegins();
    else itemsDone++;
    const complete = places.toItemEvent(event, item);
    const missing = !isNew && item.type === 'message' ? texts.missingOfItem(item) : [];
    return [...missing, complete];
  }

  function repairText(event: Json): readonly Json[] | undefined {
    if (typeof event.delta !== 'string') return [];
    if (event.delta !== '') texts.sent();
    if (typeof event.item_id === 'string' && isEmpty(event.logprobs)) return undefined;
    return [{ ...places.place(event), logprobs: null }];
  }

  function repairEnd(type: string, response: Json): readonly Json[] {
    if (type === 'response.done') {
      // Some servers send this event for every kind of end.
      const { status } = response;
      return repairEnd(`response.${status === 'failed' || status === 'incomplete' ? status : 'completed'}`, response);
    }
    if (type !== 'response.failed') return [...lateItems(response), { type, response: completeResponse(response) }];
    const error = toError(response.error) ?? { message: 'the response failed without a reason' };
    return [{ type, sequence_number: 0, response: { ...completeResponse(response), error } }];
  }

  /** Returns events for the items that only the response at the end contains. */
  function lateItems({ output }: Json): readonly Json[] {
    if (!Array.isArray(output)) return [];
    const items = output.filter(isItem).filter((item) => item.type !== 'reasoning');
    return items.flatMap((item): readonly Json[] => {
      if (item.type === 'message') return texts.missingOfResponse(item);
      return itemsDone > 0 ? [] : [places.toItemEvent({ type: 'response.output_item.done' }, item)];
    });
  }
}

function toBeginning(response: unknown): Json {
  const { id, created_at, model } = isJson(response) ? response : {};
  return { id: toText(id, 'resp_0'), created_at: toNumber(created_at), model: toText(model, '') };
}

function toErrorEvent(error: Json): Json {
  return { type: 'error', sequence_number: 0, ...error };
}

function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || (Array.isArray(value) && value.length === 0);
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
  const { input_tokens_details: input, output_tokens_details: output } = usage;
  const { cached_tokens } = isJson(input) ? input : {};
  const { reasoning_tokens } = isJson(output) ? output : {};
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

/** An error event's reason, nested or not; the code of some servers is a number. */
function toError(value: unknown): Json | undefined {
  if (typeof value === 'string') return { message: value };
  if (!isJson(value) || typeof value.message !== 'string') return undefined;
  const { code, message } = value;
  return { message, ...(code !== undefined && code !== null && { code: String(code) }) };
}
