// Selects the messages of a conversation that are sent to the model: the newest ones that fit into its budget.
import type { Message } from '../../../engines/engine.ts';
import { estimateTokens } from '../../../messages/estimate-tokens.ts';
import type { ConversationDocument, StoredMessage } from '../documents.ts';
import { liveChunks, type MessageChunks } from './message-chunks.ts';
import { decodeDetail } from './message-detail.ts';
import { tokensOf } from './messages.ts';
import type { MessageContent, ReadText } from './texts.ts';

/** Steps of a budget in which the context is trimmed. */
const STEPS = 4;
const NO_TOKENS = { bytes: 0 };

/**
 * Most chunks read for one prompt: with the newest messages, more than the budget of any model needs in usual chats.
 */
const CHUNKS_READ_MAX = 256;
/** Chunks in the first read. The number doubles per read, because a large budget usually needs many chunks. */
export const CHUNKS_AT_ONCE = 8;

export interface Context {
  readonly messages: readonly Message[];
  /** Estimated tokens of the messages. */
  readonly tokens: number;
  /** Older messages that did not fit into the budget. */
  readonly trimmed: number;
}

export async function readContext(
  { chunks, readText }: { readonly chunks: MessageChunks; readonly readText: ReadText },
  conversation: ConversationDocument,
  budgetTokens: number,
  turnId: string,
): Promise<Context> {
  const chosen = await chooseNewest(chunks, conversation, budgetTokens, turnId);
  // Reads long messages only: most contain their text, and there may be thousands of them.
  const contents = await Promise.all(
    chosen.map((message) => (message.parts > 0 ? readText(conversation.conversation_id, message) : undefined)),
  );
  const messages = chosen.map((message, index) => toMessage(message, contents[index]));
  const sizeBytes = chosen.reduce((sum, message) => sum + textBytes(message), 0);
  return { messages, tokens: estimateTokens(sizeBytes), trimmed: conversation.message_count - chosen.length };
}

/** The bytes of a message as if it were text: images have fewer tokens than their bytes suggest. */
function textBytes({ bytes, tokens = bytes }: StoredMessage): number {
  return Math.min(bytes, tokens * 4);
}

/** Parsed details by stored message: those of older messages are the same objects in each turn. */
const parsed = new WeakMap<StoredMessage, Message>();

function toMessage(stored: StoredMessage, read: MessageContent | undefined): Message {
  const known = parsed.get(stored);
  if (known !== undefined) return known;
  const { role, model } = stored;
  const { text, detail } = read ?? { text: stored.content, detail: stored.detail };
  if (detail === undefined) return { role, content: text };
  const message: Message = { role, content: text, parts: decodeDetail(text, detail), model };
  // A long message is only in the cache of texts, which has a bound.
  if (read === undefined) parsed.set(stored, message);
  return message;
}

/** The newest messages that fit, oldest first; always at least the prompt. */
async function chooseNewest(
  chunks: MessageChunks,
  conversation: ConversationDocument,
  budgetTokens: number,
  turnId: string,
): Promise<StoredMessage[]> {
  const chosen: StoredMessage[] = [];
  let left = budgetTokens;
  const takeFrom = (messages: readonly StoredMessage[]): boolean => {
    for (const message of messages.toReversed()) {
      left -= tokensOf(message);
      if (left < 0 && chosen.length > 0) return false;
      chosen.push(message);
    }
    return true;
  };
  let fits = takeFrom(promptLast(conversation.recent, turnId));
  const newest = liveChunks(conversation).slice(-CHUNKS_READ_MAX);
  for (let atOnce = CHUNKS_AT_ONCE; fits && newest.length > 0; atOnce *= 2) {
    const read = await chunks.read(conversation, newest.splice(-atOnce));
    for (const { messages } of read.toReversed()) fits &&= takeFrom(messages);
  }
  chosen.reverse();
  if (chosen.length < conversation.message_count) trimInSteps(chosen, conversation, budgetTokens);
  // Providers require that the first message is a user's, and an answer without its prompt does not help the model.
  while (chosen.length > 1 && chosen[0]?.role === 'assistant') chosen.shift();
  return chosen;
}

/**
 * Removes further old messages, so that the context of the next turns begins with the same message, which the prompt
 * caches of providers require: the messages before a multiple of a quarter of the budget, counted from the first
 * message of the conversation. So the beginning changes only after new messages of that size.
 */
function trimInSteps(
  chosen: StoredMessage[],
  { message_tokens = 0 }: ConversationDocument,
  budgetTokens: number,
): void {
  const step = Math.max(1, Math.floor(budgetTokens / STEPS));
  const cutTokens = Math.ceil((message_tokens - budgetTokens) / step) * step;
  let before = message_tokens - chosen.reduce((sum, message) => sum + tokensOf(message), 0);
  while (chosen.length > 1 && before < cutTokens) before += tokensOf(chosen.shift() ?? NO_TOKENS);
}

/** A repeated prompt keeps its place in the history, but the model gets it as the last message. */
function promptLast(messages: readonly StoredMessage[], turnId: string): readonly StoredMessage[] {
  const index = messages.findIndex((message) => message.turn_id === turnId && message.role === 'user');
  const prompt = messages[index];
  return prompt === undefined || index === messages.length - 1 ? messages : [...messages.toSpliced(index, 1), prompt];
}
