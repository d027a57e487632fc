// Translates the notifications of one Codex turn into events, and collects the answer and the usage. Bounds the output
// of commands.

import { WORKSPACE } from '../../codex-host/codex-host.ts';
import { splitText, truncateText } from '../../text.ts';
import type { EngineEvent, Usage } from '../../turn-events.ts';
import { addUsage, NO_USAGE, toUsageDetails } from '../../usage.ts';
import { toError } from './failures.ts';
import { Item, type Notification, type TurnFailure } from './protocol.ts';
import { createReasoningText } from './reasoning.ts';

/** Maximum characters of output in one event, of one command, and of a whole turn. */
const CHUNK_CHARS_MAX = 8 << 10;
const COMMAND_CHARS_MAX = 64 << 10;
const TURN_CHARS_MAX = 512 << 10;
/** Maximum characters of the whole output of a command, which its last event contains. */
const OUTPUT_CHARS_MAX = 16 << 10;
const CHANGES_MAX = 100;
const NAME_CHARS_MAX = 4 << 10;
/** Separator between two messages of one turn (a comment, then the answer). */
const BETWEEN_MESSAGES = '\n\n';

type TokenUsage = Extract<Notification, { method: 'thread/tokenUsage/updated' }>['params']['tokenUsage'];

export interface TurnTranslation {
  readonly turnId: string;
  /** Returns the events of a notification, in order. */
  toEvents(notification: Notification): EngineEvent[];
  /** The answer so far, equal to the concatenated deltas. */
  readonly content: string;
  /** Characters of the answer and of the reasoning. */
  readonly chars: number;
  readonly usage: Usage;
  /** How the turn ended; undefined while it runs. */
  readonly ended:
    | { readonly status: 'completed' | 'interrupted' | 'failed'; readonly failure: TurnFailure | null }
    | undefined;
}

export function createTranslation(turnId: string): TurnTranslation {
  let content = '';
  let usage = NO_USAGE;
  let totalTokens = -1;
  let attempts = 0;
  let lastMessage: string | undefined;
  let ended: TurnTranslation['ended'];
  const outputs = createCommandOutputs();
  const reasoning = createReasoningText();
  const textChars = new Map<string, number>();

  return {
    turnId,
    get content() {
      return content;
    },
    get chars() {
      return content.length + reasoning.chars;
    },
    get usage() {
      return usage;
    },
    get ended() {
      return ended;
    },
    toEvents(notification) {
      const { method, params } = notification;
      if (method === 'turn/completed') {
        const { id, status, error } = params.turn;
        if (id === turnId && status !== 'inProgress') ended = { status, failure: error };
        return [];
      }
      if (params.turnId !== turnId) return [];
      switch (method) {
        case 'error':
          // An error that ends the turn is repeated in the notification of its end.
          if (!params.willRetry) return [];
          return [{ StreamError: { message: toError(params.error, '').message, attempt: ++attempts } }];
        case 'item/agentMessage/delta':
          return addText(params.itemId, params.delta);
        case 'item/reasoning/summaryTextDelta':
          return reasoning.add(params.itemId, 'summary', params.summaryIndex, params.delta);
        case 'item/reasoning/textDelta':
          return reasoning.add(params.itemId, 'content', params.contentIndex, params.delta);
        case 'item/commandExecution/outputDelta':
          return outputs.add(params.itemId, params.delta);
        case 'thread/tokenUsage/updated':
          return addTokens(params.tokenUsage);
        case 'item/started':
        case 'item/completed': {
          const { data: item } = Item.safeParse(params.item);
          if (item === undefined) return [];
          return method === 'item/started' ? toBegin(item) : finish(item);
        }
        default:
          return [];
      }
    },
  };

  function addText(itemId: string, text: string): EngineEvent[] {
    if (text === '') return [];
    const delta = lastMessage !== undefined && lastMessage !== itemId ? BETWEEN_MESSAGES + text : text;
    lastMessage = itemId;
    textChars.set(itemId, (textChars.get(itemId) ?? 0) + text.length);
    content += delta;
    return [{ AgentMessageDelta: { delta } }];
  }

  function addTokens({ last, total }: TokenUsage): EngineEvent[] {
    // Codex repeats the same figures when another field of the notification changes.
    if (total.totalTokens === totalTokens) return [];
    totalTokens = total.totalTokens;
    usage = addUsage(usage, {
      input_tokens: last.inputTokens,
      output_tokens: last.outputTokens,
      total_tokens: last.totalTokens,
      ...toUsageDetails({ cached: last.cachedInputTokens, reasoning: last.reasoningOutputTokens }),
    });
    return [{ TokenCount: usage }];
  }

  function finish(item: Item): EngineEvent[] {
    switch (item.type) {
      case 'agentMessage':
        // The deltas of a message may be incomplete or missing.
        return addText(item.id, item.text.slice(textChars.get(item.id) ?? 0));
      case 'reasoning':
        return reasoning.end(item);
      case 'commandExecution':
        return [...outputs.end(item.id, item.aggregatedOutput ?? ''), toCommandEnd(item)];
      case 'fileChange': {
        const success = item.status === 'completed';
        return [{ PatchApplyEnd: { call_id: item.id, success, changes: toChanges(item) } }];
      }
      case 'mcpToolCall': {
        const success = item.status === 'completed' && item.error === null;
        const { id: call_id, server, tool } = item;
        return [{ McpToolCallEnd: { call_id, server, tool, success, duration_ms: item.durationMs ?? 0 } }];
      }
    }
  }
}

/** Converts the output of a turn's commands to events, within the bounds of one command and of the turn. */
function createCommandOutputs(): {
  add(call_id: string, text: string): EngineEvent[];
  /** At the end of a command: returns the whole output, if none of it was sent before. */
  end(call_id: string, output: string): EngineEvent[];
} {
  const charsOf = new Map<string, number>();
  let turnCharsLeft = TURN_CHARS_MAX;

  const add = (call_id: string, text: string): EngineEvent[] => {
    const soFar = charsOf.get(call_id) ?? 0;
    const kept = truncateText(text, Math.max(0, Math.min(COMMAND_CHARS_MAX - soFar, turnCharsLeft)));
    charsOf.set(call_id, soFar + text.length);
    turnCharsLeft -= kept.length;
    const chunks = [...splitText(kept.toWellFormed(), CHUNK_CHARS_MAX)];
    return chunks.map((chunk) => ({ ExecCommandOutputDelta: { call_id, stream: 'stdout', chunk } }));
  };

  return {
    add,
    end(call_id, output) {
      const events = charsOf.has(call_id) ? [] : add(call_id, output);
      charsOf.delete(call_id);
      return events;
    },
  };
}

function toBegin(item: Item): EngineEvent[] {
  const call_id = item.id;
  if (item.type === 'commandExecution') {
    return [{ ExecCommandBegin: { call_id, command: [cut(item.command)], cwd: item.cwd } }];
  }
  if (item.type === 'fileChange') return [{ PatchApplyBegin: { call_id, changes: toChanges(item) } }];
  if (item.type === 'mcpToolCall') return [{ McpToolCallBegin: { call_id, server: item.server, tool: item.tool } }];
  return [];
}

function toCommandEnd(item: Extract<Item, { type: 'commandExecution' }>): EngineEvent {
  const exit_code = item.exitCode ?? (item.status === 'completed' ? 0 : -1);
  const aggregated_output = (item.aggregatedOutput ?? '').slice(0, OUTPUT_CHARS_MAX).toWellFormed();
  return { ExecCommandEnd: { call_id: item.id, exit_code, duration_ms: item.durationMs ?? 0, aggregated_output } };
}

function toChanges(item: Extract<Item, { type: 'fileChange' }>): { path: string; change: string }[] {
  return item.changes.slice(0, CHANGES_MAX).map(({ path, kind }) => ({
    path: cut(path.startsWith(`${WORKSPACE}/`) ? path.slice(WORKSPACE.length + 1) : path),
    change: kind.type,
  }));
}

function cut(text: string): string {
  return text.length > NAME_CHARS_MAX ? `${text.slice(0, NAME_CHARS_MAX).toWellFormed()}…` : text;
}
