// Token usage of a turn, a session, a day: sums and estimates.
import { estimateTokens } from './messages/estimate-tokens.ts';
import type { EventBody, Usage } from './turn-events.ts';

export const NO_USAGE: Usage = { input_tokens: 0, output_tokens: 0, total_tokens: 0 };

/** More tokens than the window of any model. */
const COUNT_MAX = 10_000_000;

/**
 * A count as a provider reports it; 0 for one that is no natural number. Bounded, because one wrong number would use up
 * the budget of a day.
 */
export function toTokenCount(count: number | undefined): number {
  return Number.isFinite(count) ? Math.min(COUNT_MAX, Math.max(0, Math.round(count ?? 0))) : 0;
}

/** The sum; keeps fields of `a` that a newer version has added. */
export function addUsage(a: Usage, b: Usage): Usage {
  return {
    ...a,
    input_tokens: a.input_tokens + b.input_tokens,
    output_tokens: a.output_tokens + b.output_tokens,
    total_tokens: a.total_tokens + b.total_tokens,
    ...toUsageDetails({
      cached: (a.cached_input_tokens ?? 0) + (b.cached_input_tokens ?? 0),
      reasoning: (a.reasoning_tokens ?? 0) + (b.reasoning_tokens ?? 0),
    }),
    ...((a.estimated ?? b.estimated) && { estimated: true }),
  };
}

/** The members of a usage that are absent if they are 0. */
export function toUsageDetails({
  cached = 0,
  reasoning = 0,
}: {
  readonly cached?: number | undefined;
  readonly reasoning?: number | undefined;
}): Pick<Usage, 'cached_input_tokens' | 'reasoning_tokens'> {
  return {
    ...(cached > 0 && { cached_input_tokens: cached }),
    ...(reasoning > 0 && { reasoning_tokens: reasoning }),
  };
}

/**
 * Usage of a turn that did not complete: what providers have counted, and an estimate for the call that was cut, if
 * there was one.
 */
export function usageOfEvents(events: readonly { readonly event: EventBody }[]): Usage {
  const last = events.findLastIndex(({ event }) => event.TokenCount !== undefined);
  const output = events
    .slice(last + 1)
    .map(({ event }) => event.AgentMessageDelta?.delta ?? event.AgentReasoningDelta?.delta ?? '')
    .join('');
  const counted = events[last]?.event.TokenCount ?? NO_USAGE;
  return addUsage(counted, estimateUsage(events[0]?.event.TaskStarted?.context.tokens ?? 0, output));
}

function estimateUsage(inputTokens: number, output: string): Usage {
  if (output === '') return NO_USAGE;
  const output_tokens = estimateTokens(Buffer.byteLength(output));
  return { input_tokens: inputTokens, output_tokens, total_tokens: inputTokens + output_tokens, estimated: true };
}
