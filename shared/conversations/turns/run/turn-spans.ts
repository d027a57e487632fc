// Makes the spans of a turn from its events, with the semantic conventions for generative AI
// (https://opentelemetry.io/docs/specs/semconv/gen-ai/): `chat` for each call of a model, or `invoke_agent` for a turn
// of Codex, and `execute_tool` for each tool.
import type { Outcome } from '../../../engines/engine.ts';
import type { Span, Tracer } from '../../../telemetry/tracer.ts';
import type { EngineEvent, Usage } from '../../../turn-events.ts';
import { NO_USAGE } from '../../../usage.ts';

export interface TurnSpans {
  event(event: EngineEvent): void;
  completed(outcome: Outcome): void;
  /** `reason`: why the turn failed or was cancelled. */
  failed(reason: string): void;
}

export interface TracedTurn {
  readonly conversationId: string;
  /** `provider/model`. */
  readonly model: string;
}

/** Tools that run at a time and have a span; of more, only the first have one. */
const TOOLS_MAX = 64;
const AGENT = 'codex';
/** `gen_ai.provider.name` where it is not the gateway's name of the provider. */
const PROVIDER_NAMES: Readonly<Record<string, string>> = { google: 'gcp.gen_ai', codex: 'openai' };

/** `nowMs` returns epoch milliseconds. */
export function traceTurn(tracer: Tracer, turn: TracedTurn, nowMs: () => number): TurnSpans {
  const slash = turn.model.indexOf('/');
  const provider = turn.model.slice(0, Math.max(0, slash));
  const modelId = turn.model.slice(slash + 1);
  const operation = provider === AGENT ? 'invoke_agent' : 'chat';
  const common = {
    'gen_ai.operation.name': operation,
    'gen_ai.provider.name': PROVIDER_NAMES[provider] ?? provider,
    'gen_ai.request.model': modelId,
    'gen_ai.conversation.id': turn.conversationId,
    'gen_ai.agent.name': provider === AGENT ? AGENT : undefined,
  };
  const tools = createToolSpans(tracer, turn.conversationId);
  let startMs = nowMs();
  /** The last call of the model, which has ended at `endMs`; it is sent when its finish reason is known. */
  let last: { readonly span: Span; readonly endMs: number } | undefined;
  let counted: Usage = NO_USAGE;
  let isAnswering = true;

  function start(): Span {
    const name = operation === 'chat' ? `chat ${modelId}` : `invoke_agent ${AGENT}`;
    return tracer.start(name, { kind: 'client', startMs, attributes: common });
  }

  /** `usage`: of the turn so far. */
  function countCall(usage: Usage): void {
    endCall(undefined);
    const span = start();
    span.set({
      'gen_ai.usage.input_tokens': usage.input_tokens - counted.input_tokens,
      'gen_ai.usage.output_tokens': usage.output_tokens - counted.output_tokens,
    });
    counted = usage;
    startMs = nowMs();
    last = { span, endMs: startMs };
    isAnswering = false;
  }

  /** The last call was no success, and the next one begins. */
  function repeatCall(): void {
    endCall(undefined);
    isAnswering = true;
  }

  function endCall(finishReason: string | undefined, model?: string, error?: string): void {
    last?.span.set({
      'gen_ai.response.finish_reasons': finishReason === undefined ? undefined : [finishReason],
      'gen_ai.response.model': model?.slice(model.indexOf('/') + 1),
    });
    last?.span.end({ endMs: last.endMs, error });
    last = undefined;
  }

  function beginTool(tool: BegunTool): void {
    if (operation === 'chat') endCall('tool_calls');
    tools.begin(tool);
  }

  function endTool({ id, isError }: EndedTool): void {
    tools.end(id, isError);
    // The next call of the model begins with the last result.
    startMs = operation === 'chat' ? nowMs() : startMs;
    isAnswering = true;
  }

  return {
    event(event) {
      if ('TokenCount' in event && operation === 'chat') return countCall(event.TokenCount);
      if (last !== undefined && ('StreamError' in event || 'ContextTrimmed' in event)) repeatCall();
      const begun = begunTool(event);
      if (begun !== undefined) beginTool(begun);
      const ended = endedTool(event);
      if (ended !== undefined) endTool(ended);
    },
    completed({ usage, model, finishReason }) {
      if (last === undefined) countCall(usage);
      endCall(finishReason, model);
      for (const id of tools.running()) endTool({ id, isError: false });
    },
    failed(reason) {
      for (const id of tools.running()) endTool({ id, isError: true });
      endCall(undefined, undefined, reason);
      if (isAnswering) start().end({ error: reason });
    },
  };
}

interface BegunTool {
  readonly id: string;
  readonly name: string;
  readonly type: 'extension' | 'function';
}

interface EndedTool {
  readonly id: string;
  readonly isError: boolean;
}

interface ToolSpans {
  begin(tool: BegunTool): void;
  end(id: string, isError: boolean): void;
  running(): readonly string[];
}

function createToolSpans(tracer: Tracer, conversationId: string): ToolSpans {
  const spans = new Map<string, Span>();
  return {
    begin({ id, name, type }) {
      if (spans.size >= TOOLS_MAX) return;
      const attributes = {
        'gen_ai.operation.name': 'execute_tool',
        'gen_ai.tool.name': name,
        'gen_ai.tool.call.id': id,
        'gen_ai.tool.type': type,
        'gen_ai.conversation.id': conversationId,
      };
      spans.set(id, tracer.start(`execute_tool ${name}`, { kind: 'internal', attributes }));
    },
    end(id, isError) {
      spans.get(id)?.end({ error: isError ? 'tool_error' : undefined });
      spans.delete(id);
    },
    running: () => [...spans.keys()],
  };
}

function begunTool(event: EngineEvent): BegunTool | undefined {
  if ('McpToolCallBegin' in event) {
    const { call_id: id, tool: name } = event.McpToolCallBegin;
    return { id, name, type: 'extension' };
  }
  if ('ExecCommandBegin' in event) return { id: event.ExecCommandBegin.call_id, name: 'shell', type: 'function' };
  if ('PatchApplyBegin' in event) return { id: event.PatchApplyBegin.call_id, name: 'apply_patch', type: 'function' };
  return undefined;
}

function endedTool(event: EngineEvent): EndedTool | undefined {
  if ('McpToolCallEnd' in event) {
    return { id: event.McpToolCallEnd.call_id, isError: !event.McpToolCallEnd.success };
  }
  if ('ExecCommandEnd' in event) {
    return { id: event.ExecCommandEnd.call_id, isError: event.ExecCommandEnd.exit_code !== 0 };
  }
  if ('PatchApplyEnd' in event) return { id: event.PatchApplyEnd.call_id, isError: !event.PatchApplyEnd.success };
  return undefined;
}
