// Echoes the prompt when no provider is configured. Makes no network call and never fails.
import { setTimeout as sleep } from 'node:timers/promises';
import { OFFLINE_MODEL, OFFLINE_SLOW_MODEL } from '../config/values/model-id.ts';
import { estimateTokens } from '../messages/estimate-tokens.ts';
import { splitText, truncateText } from '../messages/text.ts';
import { ignoredSettings } from '../messages/turn-settings.ts';
import type { Usage } from '../turn-events.ts';
import type { Engine } from './engine.ts';

const QUOTED_CHARS_MAX = 4_000;
const DELTA_CHARS_MAX = 2_048;
/** Delay before each word: a sentence takes seconds, the longest quote less than the timeout of a turn. */
const WORD_MS = 200;
const PREFACE =
  'This is %MODEL%: no AI model is configured here (set ANTHROPIC_API_KEY or OPENAI_API_KEY, or Google ' +
  'credentials). You said: ';

/**
 * Echoes the prompt in a few deltas, at once and deterministically; a prompt over 4,000 characters is quoted in part.
 * `offline/slow` waits 200 ms before each word. Usage is an estimate of one token per four characters, since no
 * tokenizer is involved. Throws the signal's reason when aborted.
 */
export function createOfflineEngine(): Engine {
  return {
    async *run(turn, { signal }) {
      const prompt = turn.messages.at(-1)?.content ?? '';
      const quoted = prompt.length > QUOTED_CHARS_MAX ? `${truncateText(prompt, QUOTED_CHARS_MAX)}…` : prompt;
      const isSlow = turn.model === OFFLINE_SLOW_MODEL;
      const model = isSlow ? OFFLINE_SLOW_MODEL : OFFLINE_MODEL;
      const preface = PREFACE.replace('%MODEL%', model);
      let content = '';
      for (const delta of isSlow
        ? splitWords(`${preface}${quoted}`)
        : [preface, ...splitText(quoted, DELTA_CHARS_MAX)]) {
        if (isSlow) await sleep(WORD_MS, undefined, { signal }).catch(() => {});
        signal.throwIfAborted();
        content += delta;
        yield { AgentMessageDelta: { delta } };
      }
      signal.throwIfAborted();
      const sent = turn.messages.reduce((sum, message) => sum + message.content.length, turn.instructions?.length ?? 0);
      const usage = estimate(sent, content.length);
      yield { TokenCount: usage };
      const warnings = ignoredSettings(turn.settings, model);
      return { content, usage, model, finishReason: 'stop', ...(warnings.length > 0 && { warnings }) };
    },
  };
}

/** Splits the text before each word; runs of over 64 characters without white space are split too. */
function* splitWords(text: string): Generator<string> {
  for (const [word] of text.matchAll(/\s*\S{1,64}|\s+$/gu)) yield word;
}

function estimate(inputChars: number, outputChars: number): Usage {
  const input_tokens = estimateTokens(inputChars);
  const output_tokens = estimateTokens(outputChars);
  return { input_tokens, output_tokens, total_tokens: input_tokens + output_tokens };
}
