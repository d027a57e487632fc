// The messages of a conversation: the newest travel in its document, older ones move to chunk documents of some KiB, so
// that the cost of a prompt does not grow with the length of the conversation. Also what of it the model gets to see.
import { LRUCache } from 'lru-cache';
import type { Message } from '../../engines/engine.ts';
import { boundTokens, estimateTextTokens, estimateTokens } from '../../estimate-tokens.ts';
import { shareOfHeap } from '../../heap-share.ts';
import type { Store, Write } from '../../store/store.ts';
import { messageBytes, storedBytes } from '../storage.ts';
import { type ConversationDocument, type MessagesDocument, messagesRef, type StoredMessage } from './documents.ts';
import { INLINE_BYTES_MAX, readText, textDeletes, textWrites, toParts } from './texts.ts';

/** The conversation document carries at most this many messages; beyond it the older half moves to a chunk. */
const RECENT_MAX = 20;
/** ... and at most this many bytes of them. */
const RECENT_BYTES_MAX = 192 << 10;
/**
 * A chunk that has reached this size is sealed. Small, because the open one is written again whenever messages move to
 * it.
 */
const CHUNK_BYTES = 16 << 10;
/**
 * Most chunks read for one prompt: with the messages of the document, more than any model's budget needs of usual chat.
 */
const CHUNKS_READ_MAX = 256;
/** Chunks read at once at first; doubles, since a model that has seen so many has room for more. */
const CHUNKS_AT_ONCE = 8;
const CACHE_BYTES_MAX = shareOfHeap(1 / 16, 32 << 20);
/** Texts that are read at once: a longer one is read alone. */
const STEP_BYTES = 512 << 10;

export interface NewMessage {
  readonly role: 'user' | 'assistant';
  readonly text: string;
  readonly turnId: string;
  readonly now: string;
  readonly partial: boolean;
}

/** Adds a message to the document; `writes` holds the parts of a long text. */
export function appendMessage(
  conversation: ConversationDocument,
  message: NewMessage,
): { readonly conversation: ConversationDocument; readonly writes: readonly Write[] } {
  const seq = conversation.message_count + 1;
  const bytes = Buffer.byteLength(message.text);
  const parts = toParts(message.text, bytes);
  const tokens = estimateTextTokens(message.text);
  const stored: StoredMessage = {
    seq,
    role: message.role,
    content: parts.length === 0 ? message.text : '',
    parts: parts.length,
    bytes,
    turn_id: message.turnId,
    created_at: message.now,
    partial: message.partial,
    ...(tokens > boundTokens(bytes) && { tokens }),
  };
  return {
    conversation: {
      ...conversation,
      message_count: seq,
      recent: [...conversation.recent, stored],
      stored_bytes: storedBytes(conversation) + messageBytes(stored),
    },
    writes: textWrites(conversation.conversation_id, seq, parts),
  };
}

/**
 * Gives the prompt that an earlier attempt has stored to the turn that tries again, so that it is in the history once.
 * What that attempt had stored of an answer goes. Undefined where the prompt must be stored anew: it is not among the
 * newest messages any more, or others came after a part of its answer.
 */
export function takeOverPrompt(
  conversation: ConversationDocument,
  fromTurn: string,
  turnId: string,
): { readonly conversation: ConversationDocument; readonly writes: readonly Write[] } | undefined {
  const { recent, message_count } = conversation;
  const index = recent.findIndex((message) => message.turn_id === fromTurn && message.role === 'user');
  const prompt = recent[index];
  if (prompt === undefined) return undefined;
  const after = recent.slice(index + 1);
  const answer = after.filter((message) => message.turn_id === fromTurn);
  if (answer.length > 0 && answer.length < after.length) return undefined;
  const kept = answer.length > 0 ? [] : after;
  return {
    conversation: {
      ...conversation,
      message_count: message_count - answer.length,
      stored_bytes: storedBytes(conversation) - answer.reduce((sum, message) => sum + messageBytes(message), 0),
      recent: [...recent.slice(0, index), { ...prompt, turn_id: turnId }, ...kept],
    },
    writes: answer.flatMap((message) => textDeletes(conversation.conversation_id, message)),
  };
}

export interface Context {
  readonly messages: readonly Message[];
  /** About how many tokens the messages are. */
  readonly tokens: number;
  /** Older messages that did not fit into the budget. */
  readonly trimmed: number;
}

/** A message with the whole of its text. */
export type MessageText = StoredMessage & { readonly text: string };

export interface History {
  /**
   * What the model sees in turn `turnId`: the newest messages that fit into `budgetTokens`, oldest first, the turn's
   * prompt last; always at least that one.
   */
  context(conversation: ConversationDocument, budgetTokens: number, turnId: string): Promise<Context>;
  /**
   * Moves the older half of a full document's messages into chunks; returns the smaller document and the chunk's write.
   */
  compact(
    conversation: ConversationDocument,
  ): Promise<{ readonly conversation: ConversationDocument; readonly writes: readonly Write[] }>;
  /**
   * Messages with seq > `afterSeq`, oldest first. They are read in steps as the caller takes them: one that stops early
   * has read about STEP_BYTES more than it took.
   */
  read(conversation: ConversationDocument, afterSeq: number): AsyncGenerator<MessageText, void, void>;
}

export function createHistory(store: Store): History {
  // Only what never changes is cached: chunks up to a given seq, and texts.
  const chunkCache = new LRUCache<string, MessagesDocument>({
    maxSize: CACHE_BYTES_MAX,
    sizeCalculation: (chunk) =>
      256 + chunk.messages.reduce((sum, message) => sum + message.content.length * 2 + 256, 0),
  });
  const textCache = new LRUCache<string, string>({
    maxSize: CACHE_BYTES_MAX,
    sizeCalculation: (text) => text.length * 2 + 64,
  });

  /**
   * Chunks `from..to` (exclusive), each up to the first seq of what follows it in `conversation`: the open chunk may
   * have grown since that document was read, and what it grew by is in `recent` there.
   */
  const readChunks = async (
    conversation: ConversationDocument,
    from: number,
    to: number,
  ): Promise<MessagesDocument[]> => {
    const keys = Array.from({ length: to - from }, (_, index) => chunkKey(conversation, from + index));
    const found = keys.map((key) => chunkCache.get(key));
    const missing = found.flatMap((chunk, index) => (chunk === undefined ? [index] : []));
    if (missing.length > 0) {
      const refs = missing.map((index) => messagesRef(conversation.conversation_id, from + index));
      const snapshots = await store.get<MessagesDocument>(refs);
      for (const [position, index] of missing.entries()) {
        const next = nextSeq(conversation, from + index);
        const stored = snapshots[position]?.data?.messages ?? [];
        const chunk = { messages: stored.filter((message) => message.seq < next) };
        found[index] = chunk;
        const key = keys[index];
        if (key !== undefined && chunk.messages.length > 0) chunkCache.set(key, chunk);
      }
    }
    return found.map((chunk) => chunk ?? { messages: [] });
  };

  const textOf = async (id: string, message: StoredMessage): Promise<string> => {
    if (message.parts === 0) return message.content;
    // The number alone is not enough: a prompt that is tried again drops what its last attempt had answered.
    const key = `${id}-${message.seq}-${message.turn_id}`;
    const cached = textCache.get(key);
    if (cached !== undefined) return cached;
    const text = await readText(store, id, message.seq, message.parts);
    if (text !== '') textCache.set(key, text);
    return text;
  };

  /** Chunk by chunk, then those in the document. */
  async function* messagesAfter(
    conversation: ConversationDocument,
    afterSeq: number,
  ): AsyncGenerator<readonly StoredMessage[], void, void> {
    const { chunks, recent } = conversation;
    const isAfter = (message: StoredMessage): boolean => message.seq > afterSeq;
    const first = chunks.findLastIndex((firstSeq) => firstSeq <= afterSeq + 1);
    for (let chunk = Math.max(0, first); chunk < chunks.length; chunk++) {
      const [document] = await readChunks(conversation, chunk, chunk + 1);
      yield (document?.messages ?? []).filter(isAfter);
    }
    yield recent.filter(isAfter);
  }

  return {
    async context(conversation, budgetTokens, turnId) {
      const id = conversation.conversation_id;
      let left = budgetTokens;
      const chosen: StoredMessage[] = [];
      const takeFrom = (messages: readonly StoredMessage[]): boolean => {
        for (let index = messages.length - 1; index >= 0; index--) {
          const message = messages[index];
          if (message === undefined) break;
          left -= message.tokens ?? boundTokens(message.bytes);
          if (left < 0 && chosen.length > 0) return false;
          chosen.push(message);
        }
        return true;
      };
      let fits = takeFrom(promptLast(conversation.recent, turnId));
      const oldest = Math.max(0, conversation.chunks.length - CHUNKS_READ_MAX);
      let atOnce = CHUNKS_AT_ONCE;
      for (let to = conversation.chunks.length; fits && to > oldest; atOnce *= 2) {
        const from = Math.max(oldest, to - atOnce);
        for (const document of (await readChunks(conversation, from, to)).toReversed()) {
          fits &&= takeFrom(document.messages);
        }
        to = from;
      }
      chosen.reverse();
      // Providers require a user's message first, and an answer without its question is of no use.
      while (chosen.length > 1 && chosen[0]?.role === 'assistant') chosen.shift();
      // Thousands of short messages must cost next to nothing here: only long ones are waited for, the rest are passed
      // as they are.
      const messages: Message[] = [...chosen];
      const long = [...chosen.entries()].filter(([, message]) => message.parts > 0);
      const texts = await Promise.all(long.map(([, message]) => textOf(id, message)));
      for (const [position, [index, { role }]] of long.entries())
        messages[index] = { role, content: texts[position] ?? '' };
      const sizeBytes = chosen.reduce((sum, message) => sum + message.bytes, 0);
      return { messages, tokens: estimateTokens(sizeBytes), trimmed: conversation.message_count - chosen.length };
    },

    async compact(conversation) {
      const { recent, chunks } = conversation;
      const bytes = inlineBytes(recent);
      if (recent.length <= RECENT_MAX && bytes <= RECENT_BYTES_MAX) return { conversation, writes: [] };
      let keep = Math.min(RECENT_MAX / 2, recent.length - 1);
      while (keep > 1 && inlineBytes(recent.slice(-keep)) > RECENT_BYTES_MAX / 2) keep--;
      const moved = recent.slice(0, -keep);
      const kept = recent.slice(-keep);
      const [open] = chunks.length === 0 ? [] : await readChunks(conversation, chunks.length - 1, chunks.length);
      const grows = open !== undefined && open.messages.length > 0 && inlineBytes(open.messages) < CHUNK_BYTES;
      const messages = grows ? [...open.messages, ...moved] : moved;
      const index = grows ? chunks.length - 1 : chunks.length;
      const compacted: ConversationDocument = {
        ...conversation,
        recent: kept,
        chunks: grows ? chunks : [...chunks, moved[0]?.seq ?? 0],
      };
      chunkCache.set(chunkKey(compacted, index), { messages });
      return {
        conversation: compacted,
        writes: [
          { ref: messagesRef(conversation.conversation_id, index), data: { messages } satisfies MessagesDocument },
        ],
      };
    },

    async *read(conversation, afterSeq) {
      const id = conversation.conversation_id;
      for await (const messages of messagesAfter(conversation, afterSeq)) {
        for (let start = 0; start < messages.length; ) {
          const step = messages.slice(start, start + stepLength(messages, start));
          const texts = await Promise.all(step.map((message) => textOf(id, message)));
          for (const [index, message] of step.entries()) yield { ...message, text: texts[index] ?? '' };
          start += step.length;
        }
      }
    },
  };
}

/** How many messages from `start` on are read at once: as many as STEP_BYTES hold, at least one. */
function stepLength(messages: readonly StoredMessage[], start: number): number {
  let bytes = 0;
  let end = start;
  for (let message = messages[end]; message !== undefined; message = messages[++end]) {
    bytes += message.bytes;
    if (bytes > STEP_BYTES && end > start) break;
  }
  return end - start;
}

/** A prompt that is tried again keeps its place in the history, but is what the model is asked now. */
function promptLast(messages: readonly StoredMessage[], turnId: string): readonly StoredMessage[] {
  const index = messages.findIndex((message) => message.turn_id === turnId && message.role === 'user');
  const prompt = messages[index];
  return prompt === undefined || index === messages.length - 1 ? messages : [...messages.toSpliced(index, 1), prompt];
}

/** A chunk's content is fixed by its place and by the first seq that is no longer in it. */
function chunkKey(conversation: ConversationDocument, index: number): string {
  return `${conversation.conversation_id}-${index}-${nextSeq(conversation, index)}`;
}

function nextSeq({ chunks, recent, message_count }: ConversationDocument, index: number): number {
  return chunks[index + 1] ?? recent[0]?.seq ?? message_count + 1;
}

function inlineBytes(messages: readonly StoredMessage[]): number {
  return messages.reduce((sum, message) => sum + Math.min(message.bytes, INLINE_BYTES_MAX) + 200, 0);
}
