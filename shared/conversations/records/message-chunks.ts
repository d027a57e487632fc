// Older messages. They move from the conversation document to chunk documents of some KiB, so that the cost of a prompt
// does not grow with the length of the conversation.
import { LRUCache } from 'lru-cache';
import { shareOfHeap } from '../../heap-share.ts';
import type { Store } from '../../store/store.ts';
import {
  type ConversationDocument,
  Messages,
  type MessagesDocument,
  messagesRef,
  type StoredMessage,
} from './documents.ts';
import type { ChangedMessages } from './messages.ts';
import { charsOf, INLINE_BYTES_MAX } from './texts.ts';

/** The conversation document holds at most this many messages; beyond it the older half moves to a chunk. */
const RECENT_MAX = 20;
/** ... and at most this many bytes of them. */
const RECENT_BYTES_MAX = 192 << 10;
/** A chunk of this size is sealed. Small, because the open chunk is written again whenever messages move to it. */
const CHUNK_BYTES = 16 << 10;
const CACHE_BYTES_MAX = shareOfHeap(1 / 16, 32 << 20);

export interface MessageChunks {
  /**
   * Chunks `from..to` (exclusive), each up to the first seq of what follows it in `conversation`: the open chunk may
   * have grown since that document was read, and the added messages are in `recent` there.
   */
  read(conversation: ConversationDocument, from: number, to: number): Promise<MessagesDocument[]>;
  /** Moves the older half of a full document's messages to a chunk; returns the smaller document. */
  compact(conversation: ConversationDocument): Promise<ChangedMessages>;
}

export function createMessageChunks(store: Store): MessageChunks {
  // A key names a chunk up to a seq, so a cached value never changes.
  const cache = new LRUCache<string, MessagesDocument>({
    maxSize: CACHE_BYTES_MAX,
    sizeCalculation: (chunk) => 256 + chunk.messages.reduce((sum, message) => sum + charsOf(message) * 2 + 256, 0),
  });

  const read: MessageChunks['read'] = async (conversation, from, to) => {
    const keys = Array.from({ length: to - from }, (_, index) => chunkKey(conversation, from + index));
    const found = keys.map((key) => cache.get(key));
    const missing = found.flatMap((chunk, index) => (chunk === undefined ? [index] : []));
    if (missing.length > 0) {
      const refs = missing.map((index) => messagesRef(conversation.conversation_id, from + index));
      const snapshots = await store.get(refs);
      for (const [position, index] of missing.entries()) {
        const next = nextSeq(conversation, from + index);
        const stored = Messages.read(snapshots[position]) ?? { messages: [] };
        const chunk = { ...stored, messages: stored.messages.filter((message) => message.seq < next) };
        found[index] = chunk;
        const key = keys[index];
        if (key !== undefined && chunk.messages.length > 0) cache.set(key, chunk);
      }
    }
    return found.map((chunk) => chunk ?? { messages: [] });
  };

  return {
    read,
    async compact(conversation) {
      const { recent, chunks, conversation_id } = conversation;
      if (recent.length <= RECENT_MAX && inlineBytes(recent) <= RECENT_BYTES_MAX) return { conversation, writes: [] };
      const keep = keptCount(recent);
      const moved = recent.slice(0, -keep);
      const [open] = chunks.length === 0 ? [] : await read(conversation, chunks.length - 1, chunks.length);
      const grows = open !== undefined && open.messages.length > 0 && inlineBytes(open.messages) < CHUNK_BYTES;
      const chunk: MessagesDocument = grows ? { ...open, messages: [...open.messages, ...moved] } : { messages: moved };
      const index = grows ? chunks.length - 1 : chunks.length;
      const compacted: ConversationDocument = {
        ...conversation,
        recent: recent.slice(-keep),
        chunks: grows ? chunks : [...chunks, moved[0]?.seq ?? 0],
      };
      cache.set(chunkKey(compacted, index), chunk);
      return { conversation: compacted, writes: [Messages.write(messagesRef(conversation_id, index), chunk)] };
    },
  };
}

/** Number of the newest messages that stay in the document. */
function keptCount(recent: readonly StoredMessage[]): number {
  let keep = Math.min(RECENT_MAX / 2, recent.length - 1);
  while (keep > 1 && inlineBytes(recent.slice(-keep)) > RECENT_BYTES_MAX / 2) keep--;
  return keep;
}

/** The content of a chunk is determined by its index and by the first seq after it. */
function chunkKey(conversation: ConversationDocument, index: number): string {
  return `${conversation.conversation_id}-${index}-${nextSeq(conversation, index)}`;
}

function nextSeq({ chunks, recent, message_count }: ConversationDocument, index: number): number {
  return chunks[index + 1] ?? recent[0]?.seq ?? message_count + 1;
}

function inlineBytes(messages: readonly StoredMessage[]): number {
  return messages.reduce((sum, message) => sum + Math.min(message.bytes, INLINE_BYTES_MAX) + 200, 0);
}
