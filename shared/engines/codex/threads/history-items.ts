// Converts messages of a conversation to items of a Codex thread.
import { type ImagePart, type MessagePart, toRounds } from '../../../messages/message-parts.ts';
import { isBlank } from '../../../messages/text.ts';
import type { Message } from '../../engine.ts';
import { createCallIds } from '../../tools/call-ids.ts';
import { EMPTY_RESULT } from '../../tools/empty-result.ts';
import { toRepeatable } from '../../tools/tool-arguments.ts';
import type { ResponseItem, ResponseMessage, TurnInputPart } from '../protocol/protocol.ts';

/** Reasoning is left out, because Codex accepts only its own. */
export function toItems(messages: readonly Message[]): ResponseItem[] {
  const toCallId = createCallIds();
  return messages.flatMap(({ role, content, parts }) => {
    if (parts === undefined) return toTextItems(role, content);
    if (role === 'user') return [{ type: 'message', role, content: parts.flatMap(toInputContent) }];
    return toRounds(parts).flatMap(({ output, results }) => {
      const outputs: ResponseItem[] = [];
      const items = output.flatMap((part): ResponseItem[] => {
        if (part.type === 'text') return toTextItems(role, part.text);
        if (part.type === 'reasoning') return [];
        const call_id = toCallId(part.call_id);
        const result = results[outputs.length]?.content ?? '';
        const text = isBlank(result) ? EMPTY_RESULT : result.toWellFormed();
        outputs.push({ type: 'function_call_output', call_id, output: text });
        const args = JSON.stringify(toRepeatable(part.arguments));
        return [{ type: 'function_call', call_id, name: part.name, arguments: args }];
      });
      return [...items, ...outputs];
    });
  });
}

export function toItem(role: ResponseMessage['role'], text: string): ResponseMessage {
  const type = role === 'assistant' ? 'output_text' : 'input_text';
  return { type: 'message', role, content: [{ type, text: text.toWellFormed() }] };
}

function toInputContent(part: MessagePart): ResponseMessage['content'] {
  if (part.type === 'image') return [{ type: 'input_image', image_url: toDataUrl(part) }];
  return part.type === 'text' && !isBlank(part.text) ? [{ type: 'input_text', text: part.text.toWellFormed() }] : [];
}

/** The prompt of a turn as Codex takes it. */
export function toTurnInputParts({ content, parts }: Message): TurnInputPart[] {
  if (parts === undefined) return [toTextPart(content)];
  return parts.flatMap((part): TurnInputPart[] => {
    if (part.type === 'image') return [{ type: 'image', url: toDataUrl(part) }];
    return part.type === 'text' && !isBlank(part.text) ? [toTextPart(part.text)] : [];
  });
}

export function toTextPart(text: string): TurnInputPart {
  return { type: 'text', text, text_elements: [] };
}

function toDataUrl({ media_type, data }: ImagePart): string {
  return `data:${media_type};base64,${data}`;
}

function toTextItems(role: ResponseMessage['role'], text: string): ResponseItem[] {
  return isBlank(text) ? [] : [toItem(role, text)];
}
