// Collects the parts of one answer: its text, and its output in the form that the next call of the turn repeats.

import type {
  LanguageModelV4StreamPart,
  LanguageModelV4Usage,
  SharedV4ProviderMetadata,
  SharedV4Warning,
} from '@ai-sdk/provider';
import { isObject } from '../../json/json-object.ts';
import type { ReasoningPart, TextPart, ToolCallPart } from '../../messages/message-parts.ts';
import { createPairJoiner } from '../../messages/text.ts';
import type { EngineEvent, Usage } from '../../turn-events.ts';
import { toTokenCount, toUsageDetails } from '../../usage.ts';
import { toTooLarge } from '../failures/failures.ts';
import { clean } from '../failures/provider-message.ts';

/** The model's output in one call, in the form that the next call of the turn must repeat to the provider. */
export type OutputPart = TextPart | ReasoningPart | ToolCallPart;

/** A text or reasoning that grows with the stream. */
interface Piece {
  readonly type: 'text' | 'reasoning';
  text: string;
  metadata?: NonNullable<TextPart['metadata']>;
}

/** The end of an answer. */
export interface Finish {
  readonly reason: string;
  /** As the provider names it. */
  readonly raw: string | undefined;
  /** Why a model declined, where the provider states it. */
  readonly explanation: string;
  readonly usage: Usage;
}

export interface AnswerParts {
  /**
   * Takes the next part of the stream; returns its event, if it has one. Throws the error that a part carries, and
   * RpcError when the turn exceeds its size.
   */
  add(part: LanguageModelV4StreamPart): EngineEvent | undefined;
  /** The text so far: the concatenated deltas. */
  readonly content: string;
  readonly output: readonly OutputPart[];
  readonly toolCalls: readonly ToolCallPart[];
  /** What the SDK has left out of the request. */
  readonly warnings: readonly SharedV4Warning[];
  /** The model that answered, where the provider names it. */
  readonly answeredBy: string | undefined;
  /** Undefined until the end marker. */
  readonly finish: Finish | undefined;
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

/** `size`: the bytes of answers and reasoning in the whole turn, which grow with each part, and their limit. */
export function createAnswerParts(provider: string, size: { bytes: number; readonly bytesMax: number }): AnswerParts {
  const pieces = createPieces();
  const toolCalls: ToolCallPart[] = [];
  const joinPairs = createPairJoiner();
  const joinReasoning = createPairJoiner();
  /** The reasoning deltas since the last AgentReasoning event. */
  let reasoning = '';

  const grow = (text: string): void => {
    size.bytes += Buffer.byteLength(text);
    if (size.bytes > size.bytesMax) throw toTooLarge(provider, size.bytesMax);
  };

  const answer: Mutable<AnswerParts> = {
    output: pieces.output,
    toolCalls,
    warnings: [],
    content: '',
    answeredBy: undefined,
    finish: undefined,
    add(part) {
      switch (part.type) {
        case 'text-start':
        case 'text-end':
          pieces.of('text', part.id, part.providerMetadata);
          return undefined;
        case 'text-delta': {
          const delta = joinPairs(part.delta);
          if (delta === '') return undefined;
          grow(delta);
          answer.content += delta;
          pieces.of('text', part.id, part.providerMetadata).text += delta;
          return { AgentMessageDelta: { delta } };
        }
        case 'reasoning-start':
          pieces.of('reasoning', part.id, part.providerMetadata);
          return undefined;
        case 'reasoning-delta': {
          grow(part.delta);
          // The signature covers the text as the provider sent it.
          pieces.of('reasoning', part.id, part.providerMetadata).text += part.delta;
          const delta = joinReasoning(part.delta);
          reasoning += delta;
          return delta === '' ? undefined : { AgentReasoningDelta: { delta } };
        }
        case 'reasoning-end': {
          pieces.of('reasoning', part.id, part.providerMetadata);
          const text = reasoning;
          reasoning = '';
          return text === '' ? undefined : { AgentReasoning: { text } };
        }
        case 'tool-call': {
          grow(part.input);
          const call = toCall(part);
          pieces.output.push(call);
          toolCalls.push(call);
          return undefined;
        }
        case 'stream-start':
          answer.warnings = part.warnings;
          return undefined;
        case 'response-metadata':
          answer.answeredBy = part.modelId || answer.answeredBy;
          return undefined;
        case 'error':
          throw part.error;
        case 'finish':
          answer.finish = toFinish(part);
          return undefined;
        default:
          return undefined;
      }
    },
  };
  return answer;
}

interface Pieces {
  readonly output: OutputPart[];
  /** The piece that a part of the stream belongs to, with the metadata that the provider needs back. */
  of(type: Piece['type'], id: string, metadata: SharedV4ProviderMetadata | undefined): Piece;
}

function createPieces(): Pieces {
  const output: OutputPart[] = [];
  const open = new Map<string, Piece>();
  return {
    output,
    of(type, id, metadata) {
      const key = `${type} ${id}`;
      let piece = open.get(key);
      if (piece === undefined) {
        piece = { type, text: '' };
        open.set(key, piece);
        output.push(piece);
      }
      if (metadata !== undefined) piece.metadata = { ...piece.metadata, ...metadata };
      return piece;
    },
  };
}

function toFinish(part: Extract<LanguageModelV4StreamPart, { type: 'finish' }>): Finish {
  return {
    reason: part.finishReason.unified,
    raw: part.finishReason.raw,
    explanation: explanationOf(part.providerMetadata),
    usage: toUsage(part.usage),
  };
}

function toCall(part: Extract<LanguageModelV4StreamPart, { type: 'tool-call' }>): ToolCallPart {
  const { toolCallId: call_id, toolName: name, input, providerMetadata: metadata } = part;
  return { type: 'tool_call', call_id, name, arguments: input, ...(metadata !== undefined && { metadata }) };
}

/** Anthropic's explanation of a refusal, Gemini's message at the end. */
function explanationOf(metadata: SharedV4ProviderMetadata | undefined): string {
  for (const { stopDetails, finishMessage } of Object.values(metadata ?? {})) {
    const text = isObject(stopDetails) ? stopDetails.explanation : finishMessage;
    if (typeof text === 'string') return clean(text);
  }
  return '';
}

function toUsage({ inputTokens, outputTokens }: LanguageModelV4Usage): Usage {
  const [input_tokens, output_tokens] = [toTokenCount(inputTokens.total), toTokenCount(outputTokens.total)];
  const [cached, reasoning] = [toTokenCount(inputTokens.cacheRead), toTokenCount(outputTokens.reasoning)];
  const total_tokens = input_tokens + output_tokens;
  return { input_tokens, output_tokens, total_tokens, ...toUsageDetails({ cached, reasoning }) };
}
