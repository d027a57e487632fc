// Requests that a provider caches what the next request repeats. OpenAI and Google cache beginnings by themselves;
// OpenAI routes requests with the same key to the same cache; Anthropic caches up to marked blocks only.
import type { LanguageModelV4Prompt } from '@ai-sdk/provider';
import type { RpcError } from '../../../errors.ts';
import type { Wire } from '../../provider-names.ts';

const MARK = { anthropic: { cacheControl: { type: 'ephemeral' } } };
/** How servers name what they refuse. */
const REFUSED = /prompt_?cache_?key|cache_?control/i;

export interface PromptCache {
  /** The key of the cache, for OpenAI. Other servers with its wire may refuse it. */
  readonly key: string | undefined;
  mark(prompt: LanguageModelV4Prompt): LanguageModelV4Prompt;
  /** Stops requesting the cache if the server refuses it with this error; false if it refuses something else. */
  leaveOut(error: RpcError): boolean;
}

export function createPromptCache(
  { provider, wire }: { readonly provider: string; readonly wire: Wire },
  conversationId: string,
): PromptCache {
  let isAsked = true;
  const cache = {
    key: provider === 'openai' ? conversationId : undefined,
    mark: (prompt: LanguageModelV4Prompt) => (isAsked && wire === 'anthropic' ? withMarks(prompt) : prompt),
    leaveOut({ data, message }: RpcError): boolean {
      if (!isAsked || !REFUSED.test(message)) return false;
      if (data.status !== 400 && data.status !== 422) return false;
      isAsked = false;
      cache.key = undefined;
      return true;
    },
  };
  return cache;
}

/**
 * At most 4 marks are allowed: the instructions, and the last two messages that are not of the model. The request
 * before ended with the first of these two, so its cache is found however long the answer between them is.
 */
function withMarks(prompt: LanguageModelV4Prompt): LanguageModelV4Prompt {
  const inputs = prompt.flatMap(({ role }, index) => (role === 'user' || role === 'tool' ? [index] : []));
  const marked = new Set(inputs.slice(-2));
  return prompt.map((message, index) =>
    message.role === 'system' || marked.has(index) ? { ...message, providerOptions: MARK } : message,
  );
}
