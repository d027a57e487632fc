// Completes the items of a Responses stream (messages, reasoning, function calls). Some servers omit ids, output
// indexes and deltas of text; this module remembers what the SDK has received, and supplies what is missing.
import { isObject, type JsonObject } from '../../../json/json-object.ts';

const TYPES: ReadonlySet<unknown> = new Set(['message', 'reasoning', 'function_call']);

export function isItem(value: unknown): value is JsonObject {
  return isObject(value) && TYPES.has(value.type);
}

/** The ids and output indexes of the items of one stream. */
export interface ItemPlaces {
  /** Id of the item that started or ended last. */
  readonly itemId: string;
  /** Returns an event of an item with the item's id and output index. */
  place(event: JsonObject): JsonObject;
  /** Returns the event that starts or ends an item, with all members that the SDK requires. */
  toItemEvent(event: JsonObject, item: JsonObject): JsonObject;
}

export function createItemPlaces(): ItemPlaces {
  const indexes = new Map<unknown, number>();

  const indexOf = (id: unknown): number => {
    const index = indexes.get(id) ?? indexes.size;
    indexes.set(id, index);
    return index;
  };

  const places = {
    itemId: 'item_0',
    place(event: JsonObject): JsonObject {
      const item_id = typeof event.item_id === 'string' ? event.item_id : places.itemId;
      const output_index = typeof event.output_index === 'number' ? event.output_index : indexOf(item_id);
      return { ...event, item_id, output_index };
    },
    toItemEvent({ type, output_index: given }: JsonObject, item: JsonObject): JsonObject {
      if (typeof item.id === 'string') places.itemId = item.id;
      else if (type === 'response.output_item.added') places.itemId = `item_${indexes.size}`;
      const { itemId } = places;
      const output_index = typeof given === 'number' ? given : indexOf(itemId);
      indexes.set(itemId, output_index);
      return { type, output_index, item: { ...completeItem(item), id: itemId } };
    },
  };
  return places;
}

/**
 * The text of one stream. A server may send text in deltas, or as a whole at the end of its part, its item or the
 * response. Each function `missing*` returns deltas for text that was not sent in deltas.
 */
export interface ItemTexts {
  /** Call it when a delta of text was sent. */
  sent(): void;
  /** Call it when a delta of a refusal was sent. */
  refusalSent(): void;
  itemBegins(): void;
  /** At the end of a part of an item. */
  missingOfPart(text: unknown): readonly JsonObject[];
  /** At the end of a refusal. */
  missingOfRefusal(refusal: unknown): readonly JsonObject[];
  /** At the end of an item. */
  missingOfItem(item: JsonObject): readonly JsonObject[];
  /** At the end of the response, for each message in it. */
  missingOfResponse(message: JsonObject): readonly JsonObject[];
}

export function createItemTexts(places: ItemPlaces): ItemTexts {
  let hasPartText = false;
  let hasItemText = false;
  let hasText = false;

  const sent = (): void => {
    hasPartText = hasItemText = hasText = true;
  };
  const refusalSent = (): void => {
    hasItemText = hasText = true;
  };
  const toDelta = (delta: string): readonly JsonObject[] => {
    sent();
    return [{ type: 'response.output_text.delta', item_id: places.itemId, delta }];
  };
  const toRefusal = (delta: string): readonly JsonObject[] => {
    refusalSent();
    return delta === '' ? [] : [{ type: 'response.refusal.delta', item_id: places.itemId, delta }];
  };
  /** Returns the missing events for the text or the refusal of a message item. */
  const toDeltas = ({ content }: JsonObject): readonly JsonObject[] => {
    if (typeof content === 'string' && content !== '') return toDelta(content);
    if (!Array.isArray(content)) return [];
    return content.filter(isObject).flatMap(({ type, text, refusal }) => {
      if ((type === 'output_text' || type === 'text') && typeof text === 'string' && text !== '') return toDelta(text);
      if (type !== 'refusal' || typeof refusal !== 'string') return [];
      return [...toRefusal(refusal), { type: 'response.refusal.done', item_id: places.itemId, refusal }];
    });
  };

  return {
    sent,
    refusalSent,
    itemBegins() {
      hasPartText = hasItemText = false;
    },
    missingOfPart(text) {
      const missing = !hasPartText && typeof text === 'string' && text !== '' ? toDelta(text) : [];
      hasPartText = false;
      return missing;
    },
    missingOfRefusal: (refusal) => (hasItemText || typeof refusal !== 'string' ? [] : toRefusal(refusal)),
    missingOfItem: (item) => (hasItemText ? [] : toDeltas(item)),
    missingOfResponse: (message) => (hasText ? [] : toDeltas(message)),
  };
}

function completeItem(item: JsonObject): JsonObject {
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
