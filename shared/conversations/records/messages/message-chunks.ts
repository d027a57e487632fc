// Older messages. They move from the conversation document to chunk documents of some KiB, so that the cost of a prompt
// does not grow with the length of the conversation.
import { LRUCache } from 'lru-cache';
import { shareOfHeap } from '../../../bounds/heap-share.ts';
import type { Store } from '../../../store/store.ts';
import {
  type ConversationDocument,
  Messages,
  type MessagesDocument,
  messagesRef,
  type StoredMessage,
} from '../documents.ts';
import type { ChangedMessages } from './messages.ts';
import { charsOf, INLINE_BYTES_MAX } from './texts.ts';

/** The conversation document holds at most this many messages; beyond it the older half moves to a chunk. */
const RECENT_MAX = 20;
/** It holds at most this many bytes of messages. */
const RECENT_BYTES_MAX = 192 << 10;
/** A chunk of this size is sealed. Small, because the open chunk is written again whenever messages move to it. */
const CHUNK_BYTES = 16 << 10;
const CACHE_BYTES_MAX = shareOfHeap(1 / 16, 32 << 20);

export interface MessageChunks {
  /**
   * The chunks `indexes`, each up to the first seq of what follows it in `conversation`: the open chunk may have grown
   * since that document was read, and the added messages are in `recent` there.
   */
  read(conversation: ConversationDocument, indexes: readonly number[]): Promise<MessagesDocument[]>;
  /** Moves the older half of a full document's messages to a chunk; returns the smaller document. */
  compact(conversation: ConversationDocument): Promise<ChangedMessages>;
}

export function createMessageChunks(store: Store): MessageChunks {
  // A key names a chunk up to a seq, so a cached value never changes.
  const cache = new LRUCache<string, MessagesDocument>({
    maxSize: CACHE_BYTES_MAX,
    sizeCalculation: (chunk) => 256 + chunk.messages.reduce((sum, message) => sum + charsOf(message) * 2 + 256, 0),
  });

  const read: MessageChunks['read'] = async (conversation, indexes) => {
    const found = indexes.map((index) => cache.get(chunkKey(conversation, index)));
    const missing = indexes.flatMap((index, position) => (found[position] === undefined ? [{ index, position }] : []));
    if (missing.length > 0) {
      const refs = missing.map(({ index }) => messagesRef(conversation.conversation_id, index));
      const snapshots = await store.get(refs);
      for (const [order, { index, position }] of missing.entries()) {
        const next = nextSeq(conversation, index);
        const stored = Messages.read(snapshots[order]) ?? { messages: [] };
        const chunk = { ...stored, messages: stored.messages.filter((message) => message.seq < next) };
        found[position] = chunk;
        if (chunk.messages.length > 0) cache.set(chunkKey(conversation, index), chunk);
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
      const last = chunks.length - 1;
      const [open] = liveChunks(conversation).at(-1) === last && last >= 0 ? await read(conversation, [last]) : [];
      const grows = open !== undefined && open.messages.length > 0 && inlineBytes(open.messages) < CHUNK_BYTES;
      const chunk: MessagesDocument = grows ? { ...open, messages: [...open.messages, ...moved] } : { messages: moved };
      const index = grows ? chunks.length - 1 : chunks.length;
      const compacted: ConversationDocument = {
        ...conversation,
        recent: recent.slice(-keep),
        chunks: grows ? chunks : [...chunks, moved[0]?.seq ?? 0],
      };
      return {
        conversation: compacted,
        writes: [Messages.write(messagesRef(conversation_id, index), chunk)],
        // Cached after the commit only: if another instance ends the turn, other messages may get these numbers.
        committed: () => void cache.set(chunkKey(compacted, index), chunk),
      };
    },
  };
}

/** The indexes of the chunks that contain messages of the conversation; the others contain dropped ones only. */
export function liveChunks(conversation: ConversationDocument): number[] {
  return conversation.chunks.flatMap((first, index) => (first < nextSeq(conversation, index) ? [index] : []));
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
