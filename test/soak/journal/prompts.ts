// Makes prompts that contain the shape of their only right answer, so that each answer can be compared character by
// character. Also scripts the model provider, which answers them or injects the current fault.
import type { ModelProvider, SeenRequest } from '../../support/fakes/model-provider/model-provider.ts';
import type { Script } from '../../support/fakes/model-provider/model-provider-script.ts';
import type { Random } from '../../support/random.ts';
import type { Json } from './journal-records.ts';
import type { ProviderLog } from './provider-log.ts';

/** A prompt and the only answer that is right. */
export interface Prompt {
  /** Unique in the run. */
  readonly nonce: string;
  readonly text: string;
  readonly expected: string;
  /** The params of conversation.prompt that do not depend on the session. */
  readonly params: Json;
}

export interface PromptShape {
  readonly chunks: number;
  readonly everyMs: number;
  /** Characters added to each chunk. */
  readonly padding?: number;
  /** The answer is JSON of SCHEMA. */
  readonly json?: boolean;
}

export type ProviderFault = '429' | '500' | 'hang' | 'cut';

/** Part of every prompt; must not occur in a log. */
export const PROMPT_MARK = 'soakprompt';
/** The model of the deployment. Faults occur in its calls only; its fallbacks answer always. */
export const MODEL = 'anthropic/claude-sonnet-4-5';
const FALLBACKS = [['openai/gpt-5'], ['anthropic/claude-haiku-4-5'], ['anthropic/claude-haiku-4-5', 'openai/gpt-5']];
/** Share of the model calls that fail while a provider fault lasts. */
const FAULT_PROBABILITY = 0.6;
/** Of one pixel. */
const IMAGE = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
const SCHEMA = {
  type: 'object',
  properties: { answer: { type: 'string' } },
  required: ['answer'],
  additionalProperties: false,
};

const PROMPT = new RegExp(`${PROMPT_MARK} (\\S+) chunks=(\\d+) every=(\\d+) padding=(\\d+) format=(text|json);`, 'g');

export function createPrompt(nonce: string, shape: PromptShape): Prompt {
  const { chunks, everyMs, padding = 0, json = false } = shape;
  const format = json ? 'json' : 'text';
  const text = `${PROMPT_MARK} ${nonce} chunks=${chunks} every=${everyMs} padding=${padding} format=${format};`;
  return { nonce, text, expected: toChunks(nonce, shape).join(''), params: { prompt: text } };
}

/** The prompt as one with an image, settings, a schema of the answer or fallbacks, each in a part of the prompts. */
export function withExtras(prompt: Prompt, shape: PromptShape, random: Random): Prompt {
  const image = { type: 'image', media_type: 'image/png', data: IMAGE };
  const params = {
    prompt: random.chance(0.15) ? [{ type: 'text', text: prompt.text }, image] : prompt.text,
    ...(random.chance(0.25) && { settings: { temperature: 0.5, max_output_tokens: 50_000, seed: 7 } }),
    ...(shape.json && { output_schema: SCHEMA }),
    ...(random.chance(0.4) && { fallbacks: random.pick(FALLBACKS) }),
  };
  return { ...prompt, params };
}

/** The prompt of a message of the history; undefined for any other text. */
export function parsePrompt(content: string): Prompt | undefined {
  const [found] = [...content.matchAll(PROMPT)].slice(-1);
  if (found === undefined || found[0] !== content) return undefined;
  const { nonce, shape } = toShape(found);
  return createPrompt(nonce, shape);
}

/** Makes the provider answer these prompts, and fail while `fault()` returns a fault. */
export function answerPrompts(
  provider: ModelProvider,
  random: Random,
  fault: () => ProviderFault | undefined,
  log: ProviderLog,
): void {
  provider.behave((request: SeenRequest): Script => {
    // Prompts without an answer are sent in one message with the next prompt, so the last one is current.
    const [found] = [...request.prompt.matchAll(PROMPT)].slice(-1);
    if (found === undefined) return { status: 400, message: 'a prompt that no client has sent' };
    const { nonce, shape } = toShape(found);
    const answer = { chunks: toChunks(nonce, shape), everyMs: shape.everyMs };
    const kind = MODEL.endsWith(`/${request.model}`) && random.chance(FAULT_PROBABILITY) ? fault() : undefined;
    const script = toScript(answer, kind, random);
    // These faults come after the first part of the answer, when no fallback may follow any more.
    const isBegun = script.hang === 'stream' || script.cut !== undefined;
    log.record(nonce, request, { fault: kind, isBegun });
    return script;
  });
}

function toScript(answer: Script, kind: ProviderFault | undefined, random: Random): Script {
  switch (kind) {
    case undefined:
      return answer;
    case '429':
      return { status: 429, headers: { 'retry-after': '1' } };
    case '500':
      return { status: 500 };
    case 'hang':
      return { ...answer, hang: random.chance(0.5) ? 'headers' : 'stream' };
    case 'cut':
      return { ...answer, cut: random.chance(0.5) ? 'socket' : 'end' };
  }
}

function toShape([, nonce = '', chunks, everyMs, padding, format]: RegExpExecArray | RegExpMatchArray): {
  readonly nonce: string;
  readonly shape: PromptShape;
} {
  const shape = { chunks: Number(chunks), everyMs: Number(everyMs), padding: Number(padding), json: format === 'json' };
  return { nonce, shape };
}

function toChunks(nonce: string, { chunks: count, padding = 0, json = false }: PromptShape): string[] {
  const chunks = Array.from({ length: count }, (_, index) => `${nonce}-${index}${'x'.repeat(padding)} `);
  return json ? ['{"answer":"', ...chunks, '"}'] : chunks;
}
