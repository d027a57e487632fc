// Reads the token counts of a provider from its answer while the answer is sent on. Codex reports the same counts, but
// a caller may control Codex.
import { Transform, type TransformCallback } from 'node:stream';
import { z } from 'zod';
import type { Usage } from '../../../turn-events.ts';
import { NO_USAGE, toTokenCount, toUsageDetails } from '../../../usage.ts';

/** In a JSON string these quotes would be escaped, so the text is always the name of a member. */
const KEY = '"usage":';
/** Maximum length of its value, an object with some numbers. */
const VALUE_CHARS_MAX = 2_048;

const count = z.number().transform(toTokenCount);
const Counted = z
  .object({
    input_tokens: count,
    output_tokens: count,
    total_tokens: count,
    input_tokens_details: z.object({ cached_tokens: count.optional() }).nullish().catch(undefined),
    output_tokens_details: z.object({ reasoning_tokens: count.optional() }).nullish().catch(undefined),
  })
  .transform(({ input_tokens_details: input, output_tokens_details: output, ...tokens }): Usage => {
    return { ...tokens, ...toUsageDetails({ cached: input?.cached_tokens, reasoning: output?.reasoning_tokens }) };
  });

/** Passes all bytes on. `onUsage` receives each increase of the counts before the bytes that contain it pass. */
export function readUsage(onUsage: (more: Usage) => void): Transform {
  let held = '';
  let counted = NO_USAGE;
  const found = (usage: Usage): void => {
    if (usage.total_tokens <= counted.total_tokens) return;
    onUsage({
      input_tokens: usage.input_tokens - counted.input_tokens,
      output_tokens: usage.output_tokens - counted.output_tokens,
      total_tokens: usage.total_tokens - counted.total_tokens,
      ...toUsageDetails({
        cached: (usage.cached_input_tokens ?? 0) - (counted.cached_input_tokens ?? 0),
        reasoning: (usage.reasoning_tokens ?? 0) - (counted.reasoning_tokens ?? 0),
      }),
    });
    counted = usage;
  };
  return new Transform({
    transform(chunk: Buffer, _encoding, callback: TransformCallback) {
      held = scan(held + chunk.toString('latin1'), found);
      callback(null, chunk);
    },
  });
}

/** Returns the end of the text that may be the beginning of a value. */
function scan(text: string, found: (usage: Usage) => void): string {
  let rest = text;
  for (let at = rest.indexOf(KEY); at !== -1; at = rest.indexOf(KEY)) {
    const value = rest.slice(at + KEY.length);
    const end = endOfObject(value);
    if (end === undefined && value.length < VALUE_CHARS_MAX) return rest.slice(at);
    if (end !== undefined) {
      const usage = parse(value.slice(0, end));
      if (usage !== undefined) found(usage);
    }
    rest = value;
  }
  return rest.slice(-KEY.length + 1);
}

/** Returns the index after the object; undefined: its end is not in the text. Strings in it contain no braces. */
function endOfObject(text: string): number | undefined {
  let depth = 0;
  for (let at = 0; at < Math.min(text.length, VALUE_CHARS_MAX); at++) {
    if (text[at] === '{') depth++;
    else if (text[at] === '}' && --depth === 0) return at + 1;
  }
  return undefined;
}

function parse(json: string): Usage | undefined {
  try {
    return Counted.safeParse(JSON.parse(json)).data;
  } catch {
    return undefined;
  }
}
