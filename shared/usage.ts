// Token usage of a turn, a session, a day: sums and estimates.
import type { Usage } from './turn-events.ts';

export const NO_USAGE: Usage = { input_tokens: 0, output_tokens: 0, total_tokens: 0 };

/** Bytes of UTF-8 per token in estimates; the English of most prompts has about 4. */
const BYTES_PER_TOKEN = 4;

export function addUsage(a: Usage, b: Usage): Usage {
  return {
    input_tokens: a.input_tokens + b.input_tokens,
    output_tokens: a.output_tokens + b.output_tokens,
    total_tokens: a.total_tokens + b.total_tokens,
    ...((a.estimated ?? b.estimated) && { estimated: true }),
  };
}

export function estimateTokens(sizeBytes: number): number {
  return Math.ceil(sizeBytes / BYTES_PER_TOKEN);
}

/** About what a turn that was cut off has cost: nothing when the model had not begun to answer. */
export function estimateUsage(inputTokens: number, text: string): Usage {
  if (text === '') return NO_USAGE;
  const output_tokens = estimateTokens(Buffer.byteLength(text));
  return { input_tokens: inputTokens, output_tokens, total_tokens: inputTokens + output_tokens, estimated: true };
}
