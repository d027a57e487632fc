// The rounds of a turn in which the model uses tools: call the model, run its tool calls, send the results, call it
// again. Rounds and calls are bounded. Above a bound the result of a call is a refusal, and the model must answer.
import type {
  JSONSchema7,
  LanguageModelV4CallOptions,
  LanguageModelV4Message,
  LanguageModelV4Prompt,
  LanguageModelV4ToolCall,
  LanguageModelV4ToolResultPart,
} from '@ai-sdk/provider';
import { RpcError } from '../../errors.ts';
import { isBlank } from '../../text.ts';
import type { EngineEvent, Usage } from '../../turn-events.ts';
import { NO_USAGE } from '../../usage.ts';
import type { OutputPart } from '../direct/answer-parts.ts';
import type { Answer } from '../direct/answer-stream.ts';
import { PROVIDERS, type ProviderName } from '../direct/providers.ts';
import type { EngineTool, Outcome, Toolset } from '../engine.ts';
import { readArguments, toRepeatable } from './tool-arguments.ts';

/** Most rounds whose tool calls are run. */
const ROUNDS_MAX = 8;
/** Most tool calls of a turn. */
const CALLS_MAX = 32;
const SHOWN_CHARS_MAX = 4096;
/** Providers refuse a result that is only white space. */
export const EMPTY_RESULT = '(no output)';
const NO_MORE = 'No more tool calls are possible in this turn. Answer with what you have.';

/** Tools in the form of the SDK; an empty object without any. */
export function toCallTools(toolset: Toolset | undefined): Pick<LanguageModelV4CallOptions, 'tools'> {
  if (toolset === undefined || toolset.tools.length === 0) return {};
  return {
    tools: toolset.tools.map(({ name, description, inputSchema }) => ({
      type: 'function',
      name,
      ...(description !== undefined && { description }),
      inputSchema: isSchema(inputSchema) ? inputSchema : { type: 'object' },
    })),
  };
}

/**
 * `callModel` gets the tool calls and results of the turn so far. Yields the events of all rounds and returns the
 * turn's outcome: the whole text, and the tokens of all its calls.
 */
export async function* runRounds(
  provider: ProviderName,
  toolset: Toolset | undefined,
  callModel: (rounds: LanguageModelV4Prompt) => AsyncGenerator<EngineEvent, Answer, void>,
  signal: AbortSignal,
): AsyncGenerator<EngineEvent, Outcome, void> {
  let rounds: LanguageModelV4Prompt = [];
  let content = '';
  let usage = NO_USAGE;
  let calls = 0;
  for (let round = 1; ; round++) {
    const answer = yield* callModel(rounds);
    content += answer.content;
    usage = add(usage, answer.usage);
    yield { TokenCount: usage };
    const model = `${provider}/${answer.answeredBy}`;
    if (answer.finishReason !== 'tool_calls' && content === '') {
      const message = `${PROVIDERS[provider].label} ended without an answer (${answer.finishReason})`;
      throw new RpcError('upstream_error', { message, data: { provider, model }, retryable: false });
    }
    if (answer.finishReason !== 'tool_calls') return { content, usage, model, finishReason: answer.finishReason };
    if (toolset === undefined || round > ROUNDS_MAX + 1) {
      if (content !== '') return { content, usage, model, finishReason: 'other' };
      const message = `${PROVIDERS[provider].label} called tools instead of answering`;
      throw new RpcError('upstream_error', { message, data: { provider }, retryable: false });
    }
    const results: LanguageModelV4ToolResultPart[] = [];
    for (const call of answer.toolCalls) {
      const isAllowed = round <= ROUNDS_MAX && ++calls <= CALLS_MAX;
      const { content: text, isError } = isAllowed ? yield* runTool(toolset, call, signal) : refuse(NO_MORE);
      const value = isBlank(text) ? EMPTY_RESULT : text;
      const output = isError ? { type: 'error-text' as const, value } : { type: 'text' as const, value };
      results.push({ type: 'tool-result', toolCallId: call.toolCallId, toolName: call.toolName, output });
    }
    rounds = [...rounds, toAssistant(answer.output), { role: 'tool', content: results }];
  }
}

type AssistantPart = Extract<LanguageModelV4Message, { readonly role: 'assistant' }>['content'][number];
type CallResult = Awaited<ReturnType<Toolset['call']>>;

async function* runTool(
  toolset: Toolset,
  { toolCallId: call_id, toolName, input }: LanguageModelV4ToolCall,
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

/** The model's output of the earlier rounds, as a message to the model. */
function toAssistant(output: readonly OutputPart[]): LanguageModelV4Message {
  return {
    role: 'assistant',
    content: output.flatMap((part): AssistantPart[] => {
      if (part.type === 'call') {
        const { toolCallId, toolName, input, providerMetadata: providerOptions } = part.call;
        const call = { type: 'tool-call' as const, toolCallId, toolName, input: toRepeatable(input) };
        return [{ ...call, ...(providerOptions !== undefined && { providerOptions }) }];
      }
      const { type, text, providerOptions } = part;
      // Reasoning without text may carry a signature that the provider requires in the next call.
      if (isBlank(text) && (type === 'text' || providerOptions === undefined)) return [];
      return [{ type, text, ...(providerOptions !== undefined && { providerOptions }) }];
    }),
  };
}

function add(a: Usage, b: Usage): Usage {
  return {
    input_tokens: a.input_tokens + b.input_tokens,
    output_tokens: a.output_tokens + b.output_tokens,
    total_tokens: a.total_tokens + b.total_tokens,
  };
}

function isSchema(value: object): value is JSONSchema7 {
  return !Array.isArray(value);
}
