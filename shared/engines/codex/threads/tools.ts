// The tools of a session, which the gateway runs on request of Codex, with the same connections, bounds and events as
// for other engines. So Codex needs no client of the MCP servers.
import { createHash } from 'node:crypto';
import type { MessagePart } from '../../../messages/message-parts.ts';
import { isBlank } from '../../../messages/text.ts';
import type { EngineEvent } from '../../../turn-events.ts';
import type { Toolset } from '../../engine.ts';
import { EMPTY_RESULT } from '../../tools/empty-result.ts';
import { checkArguments } from '../../tools/tool-arguments.ts';
import { type DynamicTool, JsonObject, type ToolAnswer, type ToolCall } from '../protocol/protocol.ts';

/** Maximum number of tool calls of one turn. */
const CALLS_MAX = 32;
const SHOWN_CHARS_MAX = 4096;

export function toDynamicTools(toolset: Toolset | undefined): DynamicTool[] {
  return (toolset?.tools ?? []).flatMap(({ name, description, inputSchema }) => {
    const { data } = JsonObject.safeParse(inputSchema);
    return data === undefined ? [] : [{ type: 'function', name, description: description ?? '', inputSchema: data }];
  });
}

/** Empty: no tools. */
export function hashTools(tools: readonly DynamicTool[]): string {
  return tools.length === 0 ? '' : createHash('sha256').update(JSON.stringify(tools)).digest('base64url');
}

/**
 * Returns the function that runs tool calls of one turn; `emit` receives their events as they happen. Undefined if the
 * turn has no tools.
 */
export function createToolRunner(
  toolset: Toolset | undefined,
  emit: (item: { readonly event: EngineEvent; readonly part: MessagePart }) => void,
  signal: AbortSignal,
): ((call: ToolCall) => Promise<ToolAnswer>) | undefined {
  if (toolset === undefined) return undefined;
  let calls = 0;
  return async ({ callId: call_id, tool: toolName, arguments: given }) => {
    const found = toolset.tools.find(({ name }) => name === toolName);
    if (found === undefined) return refuse('There is no such tool.');
    if (++calls > CALLS_MAX) return refuse('No more tool calls are possible in this turn.');
    const { data: read = {} } = JsonObject.safeParse(given);
    const problem = checkArguments(read);
    if (problem !== undefined) return refuse(problem);
    const args = found.toArguments?.(read) ?? read;
    const { server, tool } = found;
    const isShown = JSON.stringify(args).length <= SHOWN_CHARS_MAX;
    const written = JSON.stringify(read);
    emit({
      event: { McpToolCallBegin: { call_id, server, tool, ...(isShown && { arguments: args }) } },
      part: { type: 'tool_call', call_id, name: toolName, arguments: written },
    });
    const startedMs = performance.now();
    const { content, isError } = await toolset.call(found, args, signal);
    const duration_ms = Math.round(performance.now() - startedMs);
    const result = content.slice(0, SHOWN_CHARS_MAX).toWellFormed();
    const text = isBlank(content) ? EMPTY_RESULT : content;
    emit({
      event: { McpToolCallEnd: { call_id, server, tool, success: !isError, duration_ms, result } },
      part: { type: 'tool_result', call_id, name: toolName, content: text, is_error: isError },
    });
    return { contentItems: [{ type: 'inputText', text }], success: !isError };
  };
}

function refuse(text: string): ToolAnswer {
  return { contentItems: [{ type: 'inputText', text }], success: false };
}
