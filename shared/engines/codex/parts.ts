// Records the parts of an answer of Codex for the history of the conversation: its text, its commands and patches, and
// the tools that it called. Another engine that continues the conversation gets them as tool calls.
import type { MessagePart } from '../../messages/message-parts.ts';
import type { EngineEvent } from '../../turn-events.ts';
import type { RunOptions } from '../engine.ts';

const COMMAND = 'exec_command';
const PATCH = 'apply_patch';

/**
 * Returns the function that records an event of a turn. `content`: the answer so far; `given`: the event's own part.
 */
export function createPartRecorder(
  record: RunOptions['record'],
): (content: string, event: EngineEvent, given?: MessagePart) => void {
  let recordedChars = 0;
  return (content, event, given = toPart(event)) => {
    if (given === undefined) return;
    if (content.length > recordedChars) record?.({ type: 'text', text: content.slice(recordedChars) });
    recordedChars = content.length;
    record?.(given);
  };
}

function toPart(event: EngineEvent): MessagePart | undefined {
  if ('AgentReasoning' in event) return { type: 'reasoning', text: event.AgentReasoning.text };
  if ('ExecCommandBegin' in event) {
    const { call_id, command, cwd } = event.ExecCommandBegin;
    return { type: 'tool_call', call_id, name: COMMAND, arguments: JSON.stringify({ cmd: command.join(' '), cwd }) };
  }
  if ('ExecCommandEnd' in event) {
    const { call_id, exit_code, aggregated_output } = event.ExecCommandEnd;
    const content = `Exit code: ${exit_code}\n${aggregated_output}`;
    return { type: 'tool_result', call_id, name: COMMAND, content, is_error: exit_code !== 0 };
  }
  if ('PatchApplyBegin' in event) {
    const { call_id, changes } = event.PatchApplyBegin;
    return { type: 'tool_call', call_id, name: PATCH, arguments: JSON.stringify({ changes }) };
  }
  if ('PatchApplyEnd' in event) {
    const { call_id, success } = event.PatchApplyEnd;
    const content = success ? 'The patch was applied.' : 'The patch was not applied.';
    return { type: 'tool_result', call_id, name: PATCH, content, is_error: !success };
  }
  return undefined;
}
