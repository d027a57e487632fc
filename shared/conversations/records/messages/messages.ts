// The messages in a conversation document: how one is added, and how a repeated prompt takes over the stored one.
import { boundTokens, estimateTextTokens, IMAGE_TOKENS } from '../../../messages/estimate-tokens.ts';
import type { MessagePart } from '../../../messages/message-parts.ts';
import { truncateText } from '../../../messages/text.ts';
import type { Write } from '../../../store/store.ts';
import { type ConversationDocument, HEAD_CHARS, type StoredMessage } from '../documents.ts';
import { messageBytes, storedBytes } from '../storage.ts';
import { encodeDetail } from './message-detail.ts';
import { textDeletes, textWrites, toParts } from './texts.ts';

export interface NewMessage {
  readonly role: 'user' | 'assistant';
  readonly text: string;
  readonly turnId: string;
  readonly now: string;
  readonly partial: boolean;
  /** What the engine has recorded of an answer; the parts of a prompt with images. */
  readonly parts?: readonly MessagePart[] | undefined;
  /** Of an answer. */
  readonly model?: string;
  readonly usage?: StoredMessage['usage'];
  readonly finish_reason?: StoredMessage['finish_reason'];
}

/** A changed document, and the writes of other documents for the same commit. */
export interface ChangedMessages {
  readonly conversation: ConversationDocument;
  readonly writes: readonly Write[];
  /** Called once the commit has succeeded. */
  readonly committed?: (() => void) | undefined;
}

/** Tokens of a message, by estimate. */
export function tokensOf({ tokens, bytes }: Pick<StoredMessage, 'tokens' | 'bytes'>): number {
  return tokens ?? boundTokens(bytes);
}

/** Adds a message to the document; `writes` holds the parts of a long text. */
export function appendMessage(conversation: ConversationDocument, message: NewMessage): ChangedMessages {
  const seq = conversation.message_count + 1;
  const { role, text, model, usage, finish_reason } = message;
  const { parts: given = [] } = message;
  const detail = encodeDetail(text, given);
  const bytes = Buffer.byteLength(text) + Buffer.byteLength(detail ?? '');
  const parts = toParts({ text, detail }, bytes);
  const images = given.filter(({ type }) => type === 'image').length;
  const detailTokens = images > 0 ? images * IMAGE_TOKENS : estimateTextTokens(detail ?? '');
  const tokens = estimateTextTokens(text) + detailTokens;
  const isInline = parts.length === 0;
  const stored: StoredMessage = {
    seq,
    role,
    content: isInline ? text : '',
    parts: parts.length,
    ...(!isInline && { head: truncateText(text, HEAD_CHARS) }),
    bytes,
    turn_id: message.turnId,
    created_at: message.now,
    partial: message.partial,
    ...((images > 0 || tokens > boundTokens(bytes)) && { tokens }),
    ...(isInline && detail !== undefined && { detail }),
    ...(model !== undefined && { model }),
    ...(usage !== undefined && { usage }),
    ...(finish_reason !== undefined && { finish_reason }),
  };
  return {
    conversation: {
      ...conversation,
      message_count: seq,
      message_tokens: (conversation.message_tokens ?? 0) + tokensOf(stored),
      recent: [...conversation.recent, stored],
      stored_bytes: storedBytes(conversation) + messageBytes(stored),
    },
    writes: textWrites(conversation.conversation_id, seq, parts),
  };
}

/**
 * Gives the prompt that an earlier attempt has stored to the turn that repeats it, so that the history holds it once.
 * The stored part of that attempt's answer is removed. Undefined where the prompt must be stored again: it is no longer
 * among the newest messages, or other messages follow a part of its answer.
 */
export function takeOverPrompt(
  conversation: ConversationDocument,
  fromTurn: string,
  turnId: string,
): ChangedMessages | undefined {
  const { recent, message_count } = conversation;
  const index = recent.findIndex((message) => message.turn_id === fromTurn && message.role === 'user');
  const prompt = recent[index];
  if (prompt === undefined) return undefined;
  const { error: _error, ...repeated } = prompt;
  const after = recent.slice(index + 1);
  const answer = after.filter((message) => message.turn_id === fromTurn);
  if (answer.length > 0 && answer.length < after.length) return undefined;
  const kept = answer.length > 0 ? [] : after;
  return {
    conversation: {
      ...conversation,
      message_count: message_count - answer.length,
      message_tokens: (conversation.message_tokens ?? 0) - answer.reduce((sum, message) => sum + tokensOf(message), 0),
      stored_bytes: storedBytes(conversation) - answer.reduce((sum, message) => sum + messageBytes(message), 0),
      recent: [...recent.slice(0, index), { ...repeated, turn_id: turnId }, ...kept],
    },
    writes: answer.flatMap((message) => textDeletes(conversation.conversation_id, message)),
  };
}
