// Converts the commands, changes of files and MCP calls of a Codex turn to events.
import { WORKSPACE } from '../../../codex-host/codex-host.ts';
import { shorten } from '../../../messages/text.ts';
import type { EngineEvent } from '../../../turn-events.ts';
import type { Item } from '../protocol/protocol.ts';

/** Maximum characters of the whole output of a command, which its last event contains. */
const OUTPUT_CHARS_MAX = 16 << 10;
const CHANGES_MAX = 100;
const NAME_CHARS_MAX = 4 << 10;

type ItemOf<T extends Item['type']> = Extract<Item, { readonly type: T }>;

/** The events of an item that has begun. */
export function toBegin(item: Item): EngineEvent[] {
  const call_id = item.id;
  if (item.type === 'commandExecution') {
    return [{ ExecCommandBegin: { call_id, command: [shorten(item.command, NAME_CHARS_MAX)], cwd: item.cwd } }];
  }
  if (item.type === 'fileChange') return [{ PatchApplyBegin: { call_id, changes: toChanges(item) } }];
  if (item.type === 'mcpToolCall') return [{ McpToolCallBegin: { call_id, server: item.server, tool: item.tool } }];
  return [];
}

export function toCommandEnd(item: ItemOf<'commandExecution'>): EngineEvent {
  const exit_code = item.exitCode ?? (item.status === 'completed' ? 0 : -1);
  const aggregated_output = (item.aggregatedOutput ?? '').slice(0, OUTPUT_CHARS_MAX).toWellFormed();
  return { ExecCommandEnd: { call_id: item.id, exit_code, duration_ms: item.durationMs ?? 0, aggregated_output } };
}

export function toPatchEnd(item: ItemOf<'fileChange'>): EngineEvent {
  const success = item.status === 'completed';
  return { PatchApplyEnd: { call_id: item.id, success, changes: toChanges(item) } };
}

export function toMcpCallEnd({ id, server, tool, status, error, durationMs }: ItemOf<'mcpToolCall'>): EngineEvent {
  const success = status === 'completed' && error === null;
  return { McpToolCallEnd: { call_id: id, server, tool, success, duration_ms: durationMs ?? 0 } };
}

function toChanges(item: ItemOf<'fileChange'>): { path: string; change: string }[] {
  return item.changes.slice(0, CHANGES_MAX).map(({ path, kind }) => ({
    path: shorten(path.startsWith(`${WORKSPACE}/`) ? path.slice(WORKSPACE.length + 1) : path, NAME_CHARS_MAX),
    change: kind.type,
  }));
}
