// Prompts that contain the shape of their only right answer, so that each answer can be compared character by
// character, and the script of the model provider that answers them or injects the current fault.
import type { ModelProvider, SeenRequest } from '../support/fakes/model-provider.ts';
import type { Script } from '../support/fakes/model-provider-script.ts';
import type { Random } from '../support/random.ts';

/** A prompt and the only answer that is right. */
export interface Prompt {
  /** Unique in the run. */
  readonly nonce: string;
  readonly text: string;
  readonly expected: string;
}

export interface PromptShape {
  readonly chunks: number;
  readonly everyMs: number;
  /** Characters added to each chunk. */
  readonly padding?: number;
}

export type ProviderFault = '429' | '500' | 'hang' | 'cut';

/** Part of every prompt; must not occur in a log. */
export const PROMPT_MARK = 'soakprompt';
/** Share of the model calls that fail while a provider fault lasts. */
const FAULT_PROBABILITY = 0.6;

const PROMPT = new RegExp(`${PROMPT_MARK} (\\S+) chunks=(\\d+) every=(\\d+) padding=(\\d+);`, 'g');

export function createPrompt(nonce: string, { chunks, everyMs, padding = 0 }: PromptShape): Prompt {
  return {
    nonce,
    text: `${PROMPT_MARK} ${nonce} chunks=${chunks} every=${everyMs} padding=${padding};`,
    expected: toChunks(nonce, chunks, padding).join(''),
  };
}

/** The prompt of a message of the history; undefined for any other text. */
export function parsePrompt(content: string): Prompt | undefined {
  const found = [...content.matchAll(PROMPT)].at(-1);
  const [text, nonce = '', chunks, everyMs, padding] = found ?? [];
  if (text !== content) return undefined;
  return createPrompt(nonce, { chunks: Number(chunks), everyMs: Number(everyMs), padding: Number(padding) });
}

/** Makes the provider answer these prompts, and fail while `fault()` returns a fault. */
export function answerPrompts(provider: ModelProvider, random: Random, fault: () => ProviderFault | undefined): void {
  provider.behave((request: SeenRequest): Script => {
    // Prompts without an answer are sent in one message with the next prompt, so the last one is current.
    const [, nonce = 'none', chunks = 1, everyMs = 0, padding = 0] = [...request.prompt.matchAll(PROMPT)].at(-1) ?? [];
    const answer = { chunks: toChunks(nonce, Number(chunks), Number(padding)), everyMs: Number(everyMs) };
    const kind = fault();
    if (kind === undefined || !random.chance(FAULT_PROBABILITY)) return answer;
    switch (kind) {
      case '429':
        return { status: 429, headers: { 'retry-after': '1' } };
      case '500':
        return { status: 500 };
      case 'hang':
        return { ...answer, hang: random.chance(0.5) ? 'headers' : 'stream' };
      case 'cut':
        return { ...answer, cut: random.chance(0.5) ? 'socket' : 'end' };
    }
  });
}

function toChunks(nonce: string, count: number, padding: number): string[] {
  return Array.from({ length: count }, (_, index) => `${nonce}-${index}${'x'.repeat(padding)} `);
}
