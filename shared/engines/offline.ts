// The engine of a machine without any provider: repeats the prompt and says so. It calls nothing, knows nothing and
// never fails.

import { setTimeout as sleep } from 'node:timers/promises';
import { OFFLINE_MODEL, OFFLINE_SLOW_MODEL } from '../config/model-id.ts';
import type { Usage } from '../turn-events.ts';
import type { Engine } from './engine.ts';

const CHARS_PER_TOKEN = 4;
const QUOTED_CHARS_MAX = 4_000;
const DELTA_CHARS_MAX = 2_048;
/** Per word: a sentence takes seconds, the longest quote less than a turn may. */
const WORD_MS = 200;
const PREFACE =
  'This is %MODEL%: no AI model is configured here (set ANTHROPIC_API_KEY or OPENAI_API_KEY, or Google credentials). You said: ';

/**
 * Echoes the prompt in a few deltas, at once and deterministically; a prompt over 4,000 characters is quoted in part.
 * `offline/slow` waits 200 ms before each word. Usage is an estimate of one token per four characters, since no
 * tokenizer is involved. Throws the signal's reason when aborted.
 */
export function createOfflineEngine(): Engine {
  return {
    async *run(turn, { signal }) {
      const prompt = turn.messages.at(-1)?.content ?? '';
      const quoted =
        prompt.length > QUOTED_CHARS_MAX ? `${prompt.slice(0, toBoundary(prompt, QUOTED_CHARS_MAX))}…` : prompt;
      const isSlow = turn.model === OFFLINE_SLOW_MODEL;
      const model = isSlow ? OFFLINE_SLOW_MODEL : OFFLINE_MODEL;
      const preface = PREFACE.replace('%MODEL%', model);
      let content = '';
      for (const delta of isSlow ? words(`${preface}${quoted}`) : [preface, ...pieces(quoted)]) {
        if (isSlow) await sleep(WORD_MS, undefined, { signal }).catch(() => {});
        signal.throwIfAborted();
        content += delta;
        yield { AgentMessageDelta: { delta } };
      }
      signal.throwIfAborted();
      const sent = turn.messages.reduce((sum, message) => sum + message.content.length, turn.instructions?.length ?? 0);
      const usage = estimate(sent, content.length);
      yield { TokenCount: usage };
      return { content, usage, model, finishReason: 'stop' };
    },
  };
}

/** All of the text, cut before each word; what is too long to be one is cut anywhere. */
function* words(text: string): Generator<string> {
  for (const [word] of text.matchAll(/\s*\S{1,64}|\s+$/gu)) yield word;
}

function* pieces(text: string): Generator<string> {
  for (let start = 0; start < text.length; ) {
    const end = toBoundary(text, Math.min(text.length, start + DELTA_CHARS_MAX));
    yield text.slice(start, end);
    start = end;
  }
}

/** The end of the character that `end` would split. */
function toBoundary(text: string, end: number): number {
  const last = text.charCodeAt(end - 1);
  return end < text.length && last >= 0xd800 && last <= 0xdbff ? end + 1 : end;
}

function estimate(inputChars: number, outputChars: number): Usage {
  const input_tokens = Math.ceil(inputChars / CHARS_PER_TOKEN);
  const output_tokens = Math.ceil(outputChars / CHARS_PER_TOKEN);
  return { input_tokens, output_tokens, total_tokens: input_tokens + output_tokens };
}
