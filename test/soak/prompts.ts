// Prompts that say what their answer must be, so that every answer can be judged letter by letter, and the model that
// answers them: well, or as badly as the fault of the moment asks.
import type { ModelProvider, SeenRequest } from '../support/fakes/model-provider.ts';
import type { Script } from '../support/fakes/model-provider-script.ts';
import type { Random } from './random.ts';

/** A prompt and the only answer that is right. */
export interface Ask {
  /** Unique in the run. */
  readonly nonce: string;
  readonly prompt: string;
  readonly expected: string;
}

export interface AskShape {
  readonly chunks: number;
  readonly everyMs: number;
  /** Characters added to each chunk. */
  readonly padding?: number;
}

export type ProviderFault = '429' | '500' | 'hang' | 'cut';

/** Part of every prompt; must not be seen in a log. */
export const PROMPT_MARK = 'soakprompt';
/** Of the calls during a provider's fault, those that meet it. */
const FAULTY = 0.6;

const PROMPT = new RegExp(`${PROMPT_MARK} (\\S+) chunks=(\\d+) every=(\\d+) padding=(\\d+);`, 'g');

export function createAsk(nonce: string, { chunks, everyMs, padding = 0 }: AskShape): Ask {
  return {
    nonce,
    prompt: `${PROMPT_MARK} ${nonce} chunks=${chunks} every=${everyMs} padding=${padding};`,
    expected: toChunks(nonce, chunks, padding).join(''),
  };
}

/** The ask behind a text of the history; undefined for anything else. */
export function readAsk(prompt: string): Ask | undefined {
  const found = [...prompt.matchAll(PROMPT)].at(-1);
  const [text, nonce = '', chunks, everyMs, padding] = found ?? [];
  if (text !== prompt) return undefined;
  return createAsk(nonce, { chunks: Number(chunks), everyMs: Number(everyMs), padding: Number(padding) });
}

/** Makes the provider answer asks, and misbehave while `fault()` names a fault. */
export function answerAsks(provider: ModelProvider, random: Random, fault: () => ProviderFault | undefined): void {
  provider.behave((request: SeenRequest): Script => {
    // Prompts that were never answered come in one message with the next: the last one counts.
    const [, nonce = 'none', chunks = 1, everyMs = 0, padding = 0] = [...request.prompt.matchAll(PROMPT)].at(-1) ?? [];
    const good = { chunks: toChunks(nonce, Number(chunks), Number(padding)), everyMs: Number(everyMs) };
    const bad = fault();
    if (bad === undefined || !random.chance(FAULTY)) return good;
    switch (bad) {
      case '429':
        return { status: 429, headers: { 'retry-after': '1' } };
      case '500':
        return { status: 500 };
      case 'hang':
        return { ...good, hang: random.chance(0.5) ? 'headers' : 'stream' };
      case 'cut':
        return { ...good, cut: random.chance(0.5) ? 'socket' : 'end' };
    }
  });
}

function toChunks(nonce: string, count: number, padding: number): string[] {
  return Array.from({ length: count }, (_, index) => `${nonce}-${index}${'x'.repeat(padding)} `);
}
