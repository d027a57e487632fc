// The Responses stream of OpenAI and of compatible servers (llama.cpp, LM Studio, vLLM, Ollama), which omit members
// that the SDK requires: `created_at`, `model`, `output_index`, ids, deltas. Missing members are filled in; text that
// arrives only at the end of a part, an item or the response becomes the missing delta.

import { isObject, type JsonObject } from '../../../json/json-object.ts';
import { NotAStream } from '../../failures/not-a-stream.ts';
import { createItemPlaces, createItemTexts, isItem } from './repair-openai-items.ts';
import { hasError, toBeginning, toEnd, toErrorEvent } from './repair-openai-response.ts';
import type { EventRepair } from './stream-repair.ts';

const TEXT = 'data: {"type":"response.output_text.delta",';
/** A delta without an item id must be completed, and one with empty text or log probabilities must be parsed. */
const HAS_PLACE = '"item_id":"';
const NO_TEXT = '"delta":""';
const LOGPROBS = '"logprobs":[{';

export function createOpenAiRepair(): EventRepair {
  const places = createItemPlaces();
  const texts = createItemTexts(places);
  let itemsDone = 0;

  return { isPlain, repair };

  function isPlain(line: string): boolean {
    if (!line.startsWith(TEXT) || !line.includes(HAS_PLACE)) return false;
    if (line.includes(NO_TEXT) || line.includes(LOGPROBS)) return false;
    texts.sent();
    return true;
  }

  function repair(event: JsonObject): readonly JsonObject[] | undefined {
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
        return isObject(event.part) ? texts.missingOfItem({ content: [event.part] }) : [];
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
        return repairEnd(type, isObject(event.response) ? event.response : {});
      case 'error':
        return [toErrorEvent(event)];
      case undefined:
        return repairUntyped(event);
      default:
        return [];
    }
  }

  function repairItem(event: JsonObject, item: JsonObject): readonly JsonObject[] {
    const isNew = event.type === 'response.output_item.added';
    if (isNew) texts.itemBegins();
    else itemsDone++;
    const complete = places.toItemEvent(event, item);
    const missing = !isNew && item.type === 'message' ? texts.missingOfItem(item) : [];
    return [...missing, complete];
  }

  function repairText(event: JsonObject): readonly JsonObject[] | undefined {
    if (typeof event.delta !== 'string') return [];
    if (event.delta !== '') texts.sent();
    if (typeof event.item_id === 'string' && isEmpty(event.logprobs)) return undefined;
    return [{ ...places.place(event), logprobs: null }];
  }

  function repairEnd(type: string, response: JsonObject): readonly JsonObject[] {
    const end = toEnd(type, response);
    return end.type === 'response.failed' ? [end] : [...lateItems(response), end];
  }

  /** Returns events for the items that only the response at the end contains. */
  function lateItems({ output }: JsonObject): readonly JsonObject[] {
    if (!Array.isArray(output)) return [];
    const items = output.filter(isItem).filter((item) => item.type !== 'reasoning');
    return items.flatMap((item): readonly JsonObject[] => {
      if (item.type === 'message') return texts.missingOfResponse(item);
      return itemsDone > 0 ? [] : [places.toItemEvent({ type: 'response.output_item.done' }, item)];
    });
  }
}

/** An event without a type: an error, a chunk of another protocol, or an event that the SDK ignores. */
function repairUntyped(event: JsonObject): readonly JsonObject[] | undefined {
  if (hasError(event)) return [toErrorEvent(event)];
  if (Array.isArray(event.choices)) throw new NotAStream('{}', 'a stream of chat completions');
  return undefined;
}

function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || (Array.isArray(value) && value.length === 0);
}
