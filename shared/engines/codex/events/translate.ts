// Translates the notifications of one Codex turn into events, and collects the answer and the usage.
import type { EngineEvent, Usage } from '../../../turn-events.ts';
import { addUsage, NO_USAGE, toTokenCount, toUsageDetails } from '../../../usage.ts';
import { toError } from '../failures.ts';
import { Item, type Notification, type TurnFailure } from '../protocol/protocol.ts';
import { createAnswerText } from './answer-text.ts';
import { createCommandOutputs } from './command-outputs.ts';
import { toBegin, toCommandEnd, toMcpCallEnd, toPatchEnd } from './item-events.ts';
import { createReasoningText } from './reasoning.ts';

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

/** `secrets`: see toError. */
export function createTranslation(turnId: string, secrets: readonly string[]): TurnTranslation {
  const answer = createAnswerText();
  const reasoning = createReasoningText();
  const outputs = createCommandOutputs();
  let totalTokens = -1;
  let attempts = 0;
  const translation: { -readonly [Name in keyof TurnTranslation]: TurnTranslation[Name] } = {
    turnId,
    content: '',
    chars: 0,
    usage: NO_USAGE,
    ended: undefined,
    toEvents(notification) {
      const events = convert(notification);
      translation.content = answer.content;
      translation.chars = answer.content.length + reasoning.chars;
      return events;
    },
  };
  return translation;

  function convert({ method, params }: Parameters<TurnTranslation['toEvents']>[0]): EngineEvent[] {
    if (method === 'turn/completed') {
      const { id, status, error } = params.turn;
      if (id === turnId && status !== 'inProgress') translation.ended = { status, failure: error };
      return [];
    }
    if (params.turnId !== turnId) return [];
    switch (method) {
      case 'error':
        // An error that ends the turn is repeated in the notification of its end.
        if (!params.willRetry) return [];
        return [{ StreamError: { message: toError(params.error, '', secrets).message, attempt: ++attempts } }];
      case 'item/agentMessage/delta':
        return answer.add(params.itemId, params.delta);
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
  }

  function addTokens({ last, total }: TokenUsage): EngineEvent[] {
    // Codex repeats the same figures when another field of the notification changes.
    if (total.totalTokens === totalTokens) return [];
    totalTokens = total.totalTokens;
    const [cached, reasoning] = [toTokenCount(last.cachedInputTokens), toTokenCount(last.reasoningOutputTokens)];
    translation.usage = addUsage(translation.usage, {
      input_tokens: toTokenCount(last.inputTokens),
      output_tokens: toTokenCount(last.outputTokens),
      total_tokens: toTokenCount(last.totalTokens),
      ...toUsageDetails({ cached, reasoning }),
    });
    return [{ TokenCount: translation.usage }];
  }

  function finish(item: Item): EngineEvent[] {
    switch (item.type) {
      case 'agentMessage':
        return answer.end(item.id, item.text);
      case 'reasoning':
        return reasoning.end(item);
      case 'commandExecution':
        return [...outputs.end(item.id, item.aggregatedOutput ?? ''), toCommandEnd(item)];
      case 'fileChange':
        return [toPatchEnd(item)];
      case 'mcpToolCall':
        return [toMcpCallEnd(item)];
    }
  }
}
