// Converts a provider's stream to events and one answer. An answer is complete only with the provider's end marker.
import type { LanguageModelV4StreamPart, SharedV4Warning } from '@ai-sdk/provider';
import { RpcError } from '../../errors.ts';
import type { ToolCallPart } from '../../messages/message-parts.ts';
import type { EngineEvent, Usage } from '../../turn-events.ts';
import type { Outcome } from '../engine.ts';
import { ContextOverflow } from '../failures/context-overflow.ts';
import { clean } from '../failures/provider-message.ts';
import { labelOf } from '../provider-names.ts';
import { createAnswerParts, type Finish, type OutputPart } from './answer-parts.ts';
import type { CallGuard } from './providers/call-guard.ts';

/** The stop reason of Anthropic when the prompt leaves no tokens for the answer. */
const FULL_CONTEXT = 'model_context_window_exceeded';

/** The answer of one call. */
export interface Answer {
  readonly content: string;
  readonly output: readonly OutputPart[];
  readonly toolCalls: readonly ToolCallPart[];
  readonly warnings: readonly SharedV4Warning[];
  /** The model that answered, as the provider names it. */
  readonly answeredBy: string;
  /** `tool_calls`: the model waits for their results. */
  readonly finishReason: NonNullable<Outcome['finishReason']> | 'tool_calls';
}

export interface ReadOptions {
  readonly provider: string;
  readonly modelId: string;
  readonly guard: CallGuard;
  /** The bytes of answers and reasoning in the whole turn, and their limit. */
  readonly size: { bytes: number; readonly bytesMax: number };
  /** `started` is set when a part of the answer has been passed on. */
  readonly progress: { started: boolean };
  /** Adds the tokens of the call to those of the turn, and returns the event about them. */
  readonly count: (usage: Usage) => EngineEvent;
}

/**
 * Yields the events of one call and returns its answer. Throws the errors of the SDK, or an RpcError for an incomplete
 * answer.
 */
export async function* readAnswer(
  stream: ReadableStream<LanguageModelV4StreamPart>,
  { provider, modelId, guard, size, progress, count }: ReadOptions,
): AsyncGenerator<EngineEvent, Answer, void> {
  const reader = stream.getReader();
  const collected = createAnswerParts(provider, size);
  for (;;) {
    let part: LanguageModelV4StreamPart | undefined;
    try {
      part = (await reader.read()).value;
    } catch (error) {
      // After the end marker the answer is complete, so a later failure of the connection is ignored.
      if (collected.finish === undefined) throw error;
    }
    if (part === undefined) break;
    const event = collected.add(part);
    if (part.type === 'finish') guard.finishing();
    if (event !== undefined || part.type === 'tool-call') progress.started = true;
    if (event === undefined) continue;
    guard.hold();
    yield event;
    guard.release();
  }
  const { content, output, toolCalls, warnings, finish, answeredBy = modelId } = collected;
  // Before the answer is examined: one that is no success costs as much.
  if (finish !== undefined && isCounted(finish)) {
    guard.hold();
    yield count(finish.usage);
    guard.release();
  }
  if (finish?.raw === FULL_CONTEXT && !progress.started)
    throw new ContextOverflow({
      label: labelOf(provider),
      data: { provider, model: `${provider}/${modelId}` },
      providerMessage: '',
      limitTokens: undefined,
    });
  const mayGoOn = toolCalls.length > 0 && (finish?.reason === 'tool-calls' || finish?.reason === 'stop');
  const finishReason = mayGoOn
    ? 'tool_calls'
    : toFinishReason({ provider, model: `${provider}/${modelId}` }, finish, content);
  progress.started = true;
  return { content, output, toolCalls, warnings, answeredBy, finishReason };
}

/** Whether the provider has counted the whole call. */
function isCounted({ reason, usage }: Finish): boolean {
  return reason !== 'interrupted' && (reason !== 'error' || usage.total_tokens > 0);
}

/**
 * The SDK reports `interrupted` for a body that ends before the end marker, or no finish when nothing had arrived. An
 * answer without text is valid only where another round of the turn has text (runRounds).
 */
function toFinishReason(
  data: { readonly provider: string; readonly model: string },
  finish: Finish | undefined,
  content: string,
): NonNullable<Outcome['finishReason']> {
  const label = labelOf(data.provider);
  const fail = (what: string, retryable: boolean, more = {}) =>
    new RpcError('upstream_error', { message: `${label} ${what}`, data: { ...data, ...more }, retryable });
  const reason = finish?.reason;
  if (finish === undefined || reason === 'interrupted')
    throw fail('ended its answer before it was complete', true, { sent: true });
  const raw = finish.raw ?? finish.reason;
  if (reason === 'error') throw fail(`could not complete its answer (${clean(raw)})`, true);
  if (reason === 'stop') return 'stop';
  if (content !== '') return reason === 'length' ? 'length' : reason === 'content-filter' ? 'content_filter' : 'other';
  const why = finish.explanation === '' ? '' : `: ${finish.explanation}`;
  if (reason === 'content-filter') throw fail(`declined to answer (${clean(raw)})${why}`, false);
  throw fail(`ended without an answer (${clean(raw)})`, false);
}
