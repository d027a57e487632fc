// The rounds of a turn in which the model uses tools: call the model, run its tool calls, send the results, call it
// again. Rounds and calls are bounded. Above a bound the result of a call is a refusal, and the model must answer.
import { RpcError } from '../../errors.ts';
import type { MessagePart, ToolCallPart } from '../../messages/message-parts.ts';
import { isBlank } from '../../messages/text.ts';
import type { EngineEvent } from '../../turn-events.ts';
import type { EngineTool, Outcome, RunOptions, Toolset } from '../engine.ts';
import { labelOf } from '../provider-names.ts';
import { EMPTY_RESULT } from '../tools/empty-result.ts';
import { readArguments } from '../tools/tool-arguments.ts';
import type { Answer } from './answer-stream.ts';

/** Most rounds whose tool calls are run. */
const ROUNDS_MAX = 8;
/** Most tool calls of a turn. */
const CALLS_MAX = 32;
const SHOWN_CHARS_MAX = 4096;
const NO_MORE = 'No more tool calls are possible in this turn. Answer with what you have.';

interface Rounds {
  /** Gets what the model has answered in the turn so far, with the results of its tool calls. */
  readonly callModel: (soFar: readonly MessagePart[]) => AsyncGenerator<EngineEvent, Answer, void>;
  readonly signal: AbortSignal;
  readonly record: RunOptions['record'];
}

/** Yields the events of all rounds and returns the turn's outcome, with the whole text. */
export async function* runRounds(
  provider: string,
  toolset: Toolset | undefined,
  { callModel, signal, record }: Rounds,
): AsyncGenerator<EngineEvent, Omit<Outcome, 'usage'>, void> {
  const parts: MessagePart[] = [];
  const add = (part: MessagePart): void => {
    parts.push(part);
    record?.(part);
  };
  let content = '';
  let calls = 0;
  for (let round = 1; ; round++) {
    const answer = yield* callModel(parts);
    content += answer.content;
    for (const part of answer.output) add(part);
    const model = `${provider}/${answer.answeredBy}`;
    if (answer.finishReason !== 'tool_calls' && content === '') {
      const message = `${labelOf(provider)} ended without an answer (${answer.finishReason})`;
      throw new RpcError('upstream_error', { message, data: { provider, model }, retryable: false });
    }
    if (answer.finishReason !== 'tool_calls') return { content, model, finishReason: answer.finishReason };
    if (toolset === undefined || round > ROUNDS_MAX + 1) {
      if (content !== '') return { content, model, finishReason: 'other' };
      const message = `${labelOf(provider)} called tools instead of answering`;
      throw new RpcError('upstream_error', { message, data: { provider }, retryable: false });
    }
    for (const call of answer.toolCalls) {
      const isAllowed = round <= ROUNDS_MAX && ++calls <= CALLS_MAX;
      const { content: text, isError } = isAllowed ? yield* runTool(toolset, call, signal) : refuse(NO_MORE);
      const { call_id, name } = call;
      add({ type: 'tool_result', call_id, name, content: isBlank(text) ? EMPTY_RESULT : text, is_error: isError });
    }
  }
}

type CallResult = Awaited<ReturnType<Toolset['call']>>;

async function* runTool(
  toolset: Toolset,
  { call_id, name: toolName, arguments: input }: ToolCallPart,
  signal: AbortSignal,
): AsyncGenerator<EngineEvent, CallResult, void> {
  const tool = toolset.tools.find(({ name }) => name === toolName);
  if (tool === undefined) return refuse('There is no such tool.');
  const read = readArguments(input);
  if ('problem' in read) return refuse(read.problem);
  const args = tool.toArguments?.(read.args) ?? read.args;
  const { server, tool: name }: EngineTool = tool;
  const isShown = input.length <= SHOWN_CHARS_MAX;
  yield { McpToolCallBegin: { call_id, server, tool: name, ...(isShown && { arguments: args }) } };
  const startedMs = performance.now();
  const answered = await toolset.call(tool, args, signal);
  yield {
    McpToolCallEnd: {
      call_id,
      server,
      tool: name,
      success: !answered.isError,
      duration_ms: Math.round(performance.now() - startedMs),
      result: answered.content.slice(0, SHOWN_CHARS_MAX).toWellFormed(),
    },
  };
  return answered;
}

function refuse(content: string): CallResult {
  return { content, isError: true };
}
