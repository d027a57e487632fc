// Makes the parts of an answer from the stored events of its turn, for a turn whose owner has ended. Arguments and
// results of tools are as the events contain them, at most 4 KiB each.
import type { MessagePart } from '../../../messages/message-parts.ts';
import type { NumberedEvent } from '../../records/event-log.ts';

export function partsOfEvents(events: readonly NumberedEvent[]): readonly MessagePart[] {
  let text = '';
  const parts: MessagePart[] = [];
  const add = (part: MessagePart): void => {
    if (text !== '') parts.push({ type: 'text', text });
    text = '';
    parts.push(part);
  };
  for (const { event } of events) {
    if ('AgentMessageDelta' in event) text += event.AgentMessageDelta.delta;
    else if ('AgentReasoning' in event) add({ type: 'reasoning', text: event.AgentReasoning.text });
    else if ('McpToolCallBegin' in event) {
      const { call_id, server, tool, arguments: args = {} } = event.McpToolCallBegin;
      add({ type: 'tool_call', call_id, name: toName(server, tool), arguments: JSON.stringify(args) });
    } else if ('McpToolCallEnd' in event) {
      const { call_id, server, tool, success, result = '' } = event.McpToolCallEnd;
      add({ type: 'tool_result', call_id, name: toName(server, tool), content: result, is_error: !success });
    }
  }
  return parts;
}

/** The name that the model was given, except where a number made it unique. */
function toName(server: string, tool: string): string {
  return `${server}__${tool}`.replaceAll(/[^\w-]/g, '_').slice(0, 64);
}
