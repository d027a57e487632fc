// Anthropic's Messages stream, of its own API and of compatible servers. The provider may add kinds of events, blocks
// and deltas at any time; only those that are part of an answer are passed on.
import { isObject, type JsonObject } from '../../../json/json-object.ts';
import type { EventRepair } from './stream-repair.ts';

const BLOCKS: ReadonlySet<unknown> = new Set(['text', 'thinking', 'redacted_thinking', 'tool_use']);
/** Type of a delta -> the member that contains its text. */
const DELTAS: ReadonlyMap<unknown, string> = new Map([
  ['text_delta', 'text'],
  ['input_json_delta', 'partial_json'],
  ['thinking_delta', 'thinking'],
  ['signature_delta', 'signature'],
]);

/**
 * Starts of the data lines of a first block that is text, which is usually the only one: these events are complete. The
 * most frequent is first.
 */
const PLAIN = [
  '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"',
  '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}',
  '{"type":"content_block_stop","index":0}',
  '{"type":"message_stop"}',
].map((start) => `data: ${start}`);

export function createAnthropicRepair(): EventRepair {
  /** Indexes of the blocks that are removed, with all their events. */
  const left = new Set<unknown>();
  const isPlain = (line: string): boolean => left.size === 0 && PLAIN.some((start) => line.startsWith(start));
  const repair: EventRepair['repair'] = (event) => {
    const { type, index = 0 } = event;
    switch (type) {
      case 'message_start':
        return [{ type, message: toMessage(event.message) }];
      case 'content_block_start': {
        const block = isObject(event.content_block) ? event.content_block : {};
        if (!BLOCKS.has(block.type)) {
          left.add(index);
          return [];
        }
        left.delete(index);
        return [{ type, index, content_block: toBlock(block) }, ...firstDelta(index, block)];
      }
      case 'content_block_delta': {
        if (left.has(index) || !isObject(event.delta)) return [];
        const piece = DELTAS.get(event.delta.type);
        if (piece === undefined || typeof event.delta[piece] !== 'string') return [];
        return event.index === undefined ? [{ ...event, index }] : undefined;
      }
      case 'content_block_stop':
        return left.has(index) ? [] : [{ type, index }];
      case 'message_delta':
        return [toMessageDelta(event)];
      case 'error':
        return [
          { type, error: { type: 'api_error', message: 'no reason given', ...(isObject(event.error) && event.error) } },
        ];
      case 'message_stop':
      case 'ping':
        return undefined;
      default:
        return [];
    }
  };
  return { isPlain, repair };
}

function toMessage(message: unknown): JsonObject {
  const { id, model, usage } = isObject(message) ? message : {};
  return { id: toText(id), model: toText(model), role: 'assistant', usage: { input_tokens: 0, ...toUsage(usage) } };
}

/** Replaces null or missing members by empty ones; `input` and `id` are members of a tool call only. */
function toBlock({ type, id, name, input, text, thinking, data, signature }: JsonObject): JsonObject {
  return {
    ...{ type, id, name, input: isObject(input) ? input : {} },
    ...{ text: toText(text) ?? '', thinking: toText(thinking) ?? '', data: toText(data) ?? '' },
    signature: toText(signature),
  };
}

/** Converts text in the start of a block to a delta, because the SDK ignores it there. */
function firstDelta(index: unknown, { type, text }: JsonObject): JsonObject[] {
  if (type !== 'text' || typeof text !== 'string' || text === '') return [];
  return [{ type: 'content_block_delta', index, delta: { type: 'text_delta', text } }];
}

function toMessageDelta({ type, delta, usage }: JsonObject): JsonObject {
  const { stop_reason, stop_sequence, stop_details } = isObject(delta) ? delta : {};
  const { explanation } = isObject(stop_details) ? stop_details : {};
  return {
    type,
    delta: {
      stop_reason: toText(stop_reason),
      stop_sequence: toText(stop_sequence),
      ...(typeof explanation === 'string' && { stop_details: { type: 'refusal', explanation } }),
    },
    usage: { output_tokens: 0, ...toUsage(usage) },
  };
}

const COUNTS = ['input_tokens', 'output_tokens', 'cache_creation_input_tokens', 'cache_read_input_tokens'];

function toUsage(usage: unknown): JsonObject {
  const counted = isObject(usage) ? usage : {};
  const { thinking_tokens } = isObject(counted.output_tokens_details) ? counted.output_tokens_details : {};
  const kept: Record<string, unknown> = {};
  for (const name of COUNTS) if (typeof counted[name] === 'number') kept[name] = counted[name];
  if (typeof thinking_tokens === 'number') kept.output_tokens_details = { thinking_tokens };
  return kept;
}

function toText(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
