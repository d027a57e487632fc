// Converts a provider's stream to events and one answer. An answer is complete only with the provider's end marker.
import type { LanguageModelV4StreamPart, LanguageModelV4ToolCall, SharedV4ProviderMetadata } from '@ai-sdk/provider';
import { RpcError } from '../../errors.ts';
import { createPairJoiner } from '../../text.ts';
import type { EngineEvent, Usage } from '../../turn-events.ts';
import { NO_USAGE } from '../../usage.ts';
import { ContextOverflow } from '../context-overflow.ts';
import type { Outcome } from '../engine.ts';
import { toTooLarge } from '../failures.ts';
import { clean } from '../provider-message.ts';
import type { CallGuard } from './call-guard.ts';
import { PROVIDERS, type ProviderName } from './providers.ts';
import { isJson } from './stream-repair.ts';

/** Anthropic's end of an answer for which the prompt has left no room. */
const FULL_CONTEXT = 'model_context_window_exceeded';

/** The model's output in one call, in the form that the next call of the turn must repeat to the provider. */
export type OutputPart =
  | { readonly type: 'text' | 'reasoning'; text: string; providerOptions?: SharedV4ProviderMetadata }
  | { readonly type: 'call'; readonly call: LanguageModelV4ToolCall };

/** The answer of one call. */
export interface Answer {
  readonly content: string;
  readonly output: readonly OutputPart[];
  readonly toolCalls: readonly LanguageModelV4ToolCall[];
  readonly usage: Usage;
  /** The model that answered, as the provider names it. */
  readonly answeredBy: string;
  /** `tool_calls`: the model waits for their results. */
  readonly finishReason: NonNullable<Outcome['finishReason']> | 'tool_calls';
}

export interface ReadOptions {
  readonly provider: ProviderName;
  readonly modelId: string;
  readonly guard: CallGuard;
  /** Of the answers and reasoning of the whole turn. */
  readonly size: { bytes: number; readonly bytesMax: number };
  /** Called once a part of the answer has been passed on. */
  readonly progress: { started: boolean };
}

/**
 * Yields the events of one call, returns its answer; throws what the SDK throws, or an RpcError for an answer that is
 * not one.
 */
export async function* readAnswer(
  stream: ReadableStream<LanguageModelV4StreamPart>,
  { provider, modelId, guard, size, progress }: ReadOptions,
): AsyncGenerator<EngineEvent, Answer, void> {
  const reader = stream.getReader();
  const output: OutputPart[] = [];
  const open = new Map<string, Extract<OutputPart, { text: string }>>();
  const toolCalls: LanguageModelV4ToolCall[] = [];
  const joinPairs = createPairJoiner();
  let content = '';
  let answeredBy = modelId;
  let finish: Finish | undefined;
  const grow = (text: string): void => {
    size.bytes += Buffer.byteLength(text);
    if (size.bytes > size.bytesMax) throw toTooLarge(provider, size.bytesMax);
  };
  /** The piece that a part of the stream belongs to, with the metadata that the provider needs back. */
  const pieceOf = (type: 'text' | 'reasoning', id: string, metadata: SharedV4ProviderMetadata | undefined) => {
    const key = `${type} ${id}`;
    let piece = open.get(key);
    if (piece === undefined) {
      piece = { type, text: '' };
      open.set(key, piece);
      output.push(piece);
    }
    if (metadata !== undefined) piece.providerOptions = { ...piece.providerOptions, ...metadata };
    return piece;
  };
  for (;;) {
    let part: LanguageModelV4StreamPart | undefined;
    try {
      part = (await reader.read()).value;
    } catch (error) {
      // After its end marker nothing of an answer is missing, whatever becomes of the connection.
      if (finish === undefined) throw error;
    }
    if (part === undefined) break;
    let event: EngineEvent | undefined;
    switch (part.type) {
      case 'text-start':
      case 'text-end':
        pieceOf('text', part.id, part.providerMetadata);
        break;
      case 'text-delta': {
        const delta = joinPairs(part.delta);
        if (delta === '') break;
        grow(delta);
        content += delta;
        pieceOf('text', part.id, part.providerMetadata).text += delta;
        event = { AgentMessageDelta: { delta } };
        break;
      }
      case 'reasoning-start':
        pieceOf('reasoning', part.id, part.providerMetadata);
        break;
      case 'reasoning-delta':
        grow(part.delta);
        pieceOf('reasoning', part.id, part.providerMetadata).text += part.delta;
        break;
      case 'reasoning-end': {
        const { text } = pieceOf('reasoning', part.id, part.providerMetadata);
        if (text !== '') event = { AgentReasoning: { text: text.toWellFormed() } };
        break;
      }
      case 'tool-call':
        grow(part.input);
        output.push({ type: 'call', call: part });
        toolCalls.push(part);
        progress.started = true;
        break;
      case 'response-metadata':
        answeredBy = part.modelId || answeredBy;
        break;
      case 'error':
        throw part.error;
      case 'finish':
        finish = {
          reason: part.finishReason.unified,
          raw: part.finishReason.raw,
          explanation: explanationOf(part.providerMetadata),
          usage: toUsage(part.usage.inputTokens.total, part.usage.outputTokens.total),
        };
        guard.finishing();
    }
    if (event === undefined) continue;
    progress.started = true;
    guard.hold();
    yield event;
    guard.release();
  }
  if (finish?.raw === FULL_CONTEXT && !progress.started)
    throw new ContextOverflow({
      label: PROVIDERS[provider].label,
      data: { provider, model: `${provider}/${modelId}` },
      providerMessage: '',
      limitTokens: undefined,
    });
  const mayGoOn = toolCalls.length > 0 && (finish?.reason === 'tool-calls' || finish?.reason === 'stop');
  const finishReason = mayGoOn
    ? 'tool_calls'
    : toFinishReason({ provider, model: `${provider}/${modelId}` }, finish, content);
  progress.started = true;
  return { content, output, toolCalls, usage: finish?.usage ?? NO_USAGE, answeredBy, finishReason };
}

interface Finish {
  readonly reason: string;
  /** As the provider names it. */
  readonly raw: string | undefined;
  /** Why a model declined, where the provider states it. */
  readonly explanation: string;
  readonly usage: Usage;
}

/**
 * The SDK reports `interrupted` for a body that ends before the end marker, or no finish when nothing had arrived. An
 * answer without text is valid only where another round of the turn has text (runRounds).
 */
function toFinishReason(
  data: { readonly provider: ProviderName; readonly model: string },
  finish: Finish | undefined,
  content: string,
): NonNullable<Outcome['finishReason']> {
  const { label } = PROVIDERS[data.provider];
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

/** Anthropic's explanation of a refusal, Gemini's message at the end. */
function explanationOf(metadata: SharedV4ProviderMetadata | undefined): string {
  for (const { stopDetails, finishMessage } of Object.values(metadata ?? {})) {
    const text = isJson(stopDetails) ? stopDetails.explanation : finishMessage;
    if (typeof text === 'string') return clean(text);
  }
  return '';
}

function toUsage(input_tokens = 0, output_tokens = 0): Usage {
  return { input_tokens, output_tokens, total_tokens: input_tokens + output_tokens };
}
