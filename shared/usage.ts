// Token usage of a turn, of a session, of a day: one shape, added up in one place.

/** Tokens, as counted by the provider; wire names, because this shape is stored and sent as it is. */
export interface Usage {
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly total_tokens: number;
  /** Some of it is our estimate: providers count only when they end an answer, and this one was cut off. */
  readonly estimated?: true;
}

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

/** What a turn that was cut off has cost, about: nothing when the model had not begun to answer. */
export function estimateUsage(inputTokens: number, text: string): Usage {
  if (text === '') return NO_USAGE;
  const output_tokens = estimateTokens(Buffer.byteLength(text));
  return { input_tokens: inputTokens, output_tokens, total_tokens: inputTokens + output_tokens, estimated: true };
}
