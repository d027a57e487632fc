// Anthropic's Messages stream, of its own API and of compatible servers. New kinds of events, blocks and deltas may
// come at any time; the gateway asks for none of them, so that only those that make up an answer are passed on.
import { type EventRepair, isJson, type Json, startsWith } from './stream-repair.ts';

const BLOCKS: ReadonlySet<unknown> = new Set(['text', 'thinking', 'redacted_thinking', 'tool_use']);
const DELTAS: ReadonlySet<unknown> = new Set(['text_delta', 'input_json_delta', 'thinking_delta', 'signature_delta']);

/** Of the first block, most often the only one. */
const TEXT = Buffer.from('data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"');

export function createAnthropicRepair(): EventRepair {
  /** Indexes of blocks that are left out, with all that belongs to them. */
  const left = new Set<unknown>();
  const isPlain = (line: Buffer): boolean => left.size === 0 && startsWith(line, TEXT);
  const repair: EventRepair['repair'] = (event) => {
    const { type, index = 0 } = event;
    switch (type) {
      case 'message_start':
        return [{ type, message: toMessage(event.message) }];
      case 'content_block_start': {
        const block = isJson(event.content_block) ? event.content_block : {};
        if (!BLOCKS.has(block.type)) {
          left.add(index);
          return [];
        }
        left.delete(index);
        return [{ type, index, content_block: { text: '', thinking: '', data: '', ...block } }];
      }
      case 'content_block_delta': {
        if (left.has(index) || !isJson(event.delta) || !DELTAS.has(event.delta.type)) return [];
        return event.index === undefined ? [{ ...event, index }] : undefined;
      }
      case 'content_block_stop':
        return left.has(index) ? [] : [{ type, index }];
      case 'message_delta':
        return [toMessageDelta(event)];
      case 'error':
        return [
          { type, error: { type: 'api_error', message: 'no reason given', ...(isJson(event.error) && event.error) } },
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

function toMessage(message: unknown): Json {
  const { id, model, role, usage } = isJson(message) ? message : {};
  return { id, model, role, usage: { input_tokens: 0, ...(isJson(usage) && usage) } };
}

function toMessageDelta({ type, delta, usage }: Json): Json {
  const { stop_reason, stop_sequence, stop_details } = isJson(delta) ? delta : {};
  const { explanation } = isJson(stop_details) ? stop_details : {};
  const counted = isJson(usage) ? usage : {};
  const { input_tokens, output_tokens = 0, cache_creation_input_tokens, cache_read_input_tokens } = counted;
  return {
    type,
    delta: {
      stop_reason,
      stop_sequence,
      ...(typeof explanation === 'string' && { stop_details: { type: 'refusal', explanation } }),
    },
    usage: { input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens },
  };
}
