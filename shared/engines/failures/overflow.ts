// Recognises that a conversation is too long for a model, and trims it. Trimming drops the oldest messages in steps of
// a quarter, so that requests begin at the same message for many turns; the prompt stays whole.
import { boundTokens, estimateTextTokens, IMAGE_TOKENS } from '../../messages/estimate-tokens.ts';
import type { MessagePart } from '../../messages/message-parts.ts';
import { isBlank } from '../../messages/text.ts';
import type { EngineEvent } from '../../turn-events.ts';
import type { Message, TurnInput } from '../engine.ts';

/**
 * Error messages of Anthropic, OpenAI, Gemini, xAI, Mistral, Groq, Bedrock, vLLM, llama.cpp, LM Studio, Ollama and of
 * gateways in front of them.
 */
const FORMS: readonly RegExp[] = [
  /context[ _]length[ _]exceeded|exceed_context_size|model_context_window_exceeded/i,
  /context size (?:has been )?exceeded/i,
  /prompt is too long|input is too long|input length (?:and `?max_tokens`? )?exceeds?/i,
  /too many (?:prompt |input )?tokens|token limit exceeded/i,
  /exceed\w*.{0,40}(?:context (?:window|length|size|limit)|model(?:'s)? token limit|maximum number of tokens)/i,
  /context window exceeds|greater than the context length|with context length of only|reached context length/i,
  /maximum (?:context|prompt|model|input) length (?:is|of)|too large for model with|only supports up to \d+/i,
  /reduce the length of the (?:messages|prompt|input)|input token count .{0,60}(?:exceeds|only supports)/i,
];
/** The maximum number of tokens in a provider's message. */
const LIMITS: readonly RegExp[] = [
  /> ?(\d{3,})/,
  /(?:maximum|available|limit|only|up to|model with|allowed)\D{0,60}?\(?(\d{3,})/i,
  /n_ctx\D{0,4}(\d{3,})/,
];
/** Lower bound of a budget; a smaller one would remove the whole conversation. */
const BUDGET_MIN = 1_024;
const STEP = 3 / 4;

/**
 * `status`: HTTP status. A 429 is an overflow if the request alone has more tokens than the account may send per
 * minute, because it would fail after any wait.
 */
export function isOverflow(message: string, status?: number): boolean {
  if (status === 429) return /request too large for/i.test(message);
  return FORMS.some((form) => form.test(message));
}

/** The limit that the provider names, in its own tokens. */
export function limitOf(message: string): number | undefined {
  for (const form of LIMITS) {
    const [, digits] = form.exec(message) ?? [];
    if (digits !== undefined) return Number(digits);
  }
  return undefined;
}

/** The trimmed turn that is sent after an overflow. */
export interface Trimmed {
  readonly turn: TurnInput;
  /** The budget for messages, instructions and tools of the next turns, by the gateway's estimate. */
  readonly budgetTokens: number;
}

/**
 * Removes the oldest messages: a quarter of the tokens, or as many quarters as needed for `limitTokens`, the limit in
 * the provider's message; at least one message. `all`: every message except the prompt. Undefined when only the prompt
 * is left.
 */
export function trimTurn(turn: TurnInput, limitTokens = Number.POSITIVE_INFINITY, all = false): Trimmed | undefined {
  const { messages, instructions = '', tools, trimmed = 0 } = turn;
  const sizes = messages.map(tokensOf);
  const beside = estimateTextTokens(instructions) + boundTokens(tools?.chars ?? 0);
  let tokens = sizes.reduce((sum, size) => sum + size, beside);
  let budgetTokens = tokens * STEP;
  while (budgetTokens > limitTokens) budgetTokens *= STEP;
  budgetTokens = Math.max(BUDGET_MIN, Math.floor(budgetTokens));
  let from = 0;
  while (from < messages.length - 1 && (all || from === 0 || tokens > budgetTokens || !isUsers(messages[from]))) {
    tokens -= sizes[from] ?? 0;
    from++;
  }
  if (from === 0) return undefined;
  return { turn: { ...turn, messages: messages.slice(from), trimmed: trimmed + from }, budgetTokens };
}

/** A message is removed whole, so a tool call never loses its result. */
function tokensOf({ content, parts = [] }: Message): number {
  const texts = [content, ...parts.flatMap(textsOf)];
  const images = parts.filter(({ type }) => type === 'image').length * IMAGE_TOKENS;
  return texts.reduce((sum, text) => sum + (isBlank(text) ? 0 : estimateTextTokens(text)), images);
}

/** What a part contains besides the text of its message. */
function textsOf(part: MessagePart): readonly string[] {
  if (part.type === 'tool_call') return [part.name, part.arguments];
  if (part.type === 'tool_result') return [part.content];
  return part.type === 'reasoning' ? [part.text] : [];
}

export function toEvent({ turn, budgetTokens }: Trimmed): EngineEvent {
  const { messages, trimmed = 0 } = turn;
  return { ContextTrimmed: { messages: messages.length, trimmed, budget_tokens: budgetTokens } };
}

/** Providers require that the first message is a user's. */
function isUsers(message: Message | undefined): boolean {
  return message?.role === 'user';
}
