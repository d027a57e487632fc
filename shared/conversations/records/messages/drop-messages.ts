// Drops the messages after a number (`after_seq` of a prompt), in the commit that admits the prompt. Messages in the
// document are removed with their texts. Those in chunk documents stay stored until the session is erased, but no
// version reads them: a chunk is read up to the first seq of what follows it, and no chunk document is written again
// after a part of it was dropped. So the content of a chunk up to a seq never changes, as its caches assume.

import type { ConversationDocument } from '../documents.ts';
import { titlingPrompt } from '../session-fields.ts';
import { messageBytes, storedBytes } from '../storage.ts';
import { type ChangedMessages, tokensOf } from './messages.ts';
import { textDeletes } from './texts.ts';

/** `turnId`: the turn whose prompt follows message `seq`; it names the branch of the history from now on. */
export function dropMessages(conversation: ConversationDocument, seq: number, turnId: string): ChangedMessages {
  const { recent, chunks, message_count, conversation_id, default_title, ...others } = conversation;
  if (seq >= message_count) return { conversation, writes: [] };
  const dropped = recent.filter((message) => message.seq > seq);
  const firstRecent = recent[0]?.seq ?? message_count + 1;
  return {
    conversation: {
      ...others,
      conversation_id,
      ...(default_title !== undefined && seq >= (titlingPrompt({ recent })?.seq ?? 1) && { default_title }),
      message_count: seq,
      recent: recent.filter((message) => message.seq <= seq),
      chunks: seq + 1 < firstRecent ? sealChunks(chunks, seq + 1) : chunks,
      // The tokens of dropped messages in chunks stay counted: only the place of the next trimming depends on the sum.
      message_tokens: dropped.reduce((tokens, message) => tokens - tokensOf(message), conversation.message_tokens ?? 0),
      stored_bytes: dropped.reduce((bytes, message) => bytes - messageBytes(message), storedBytes(conversation)),
      branch: turnId,
    },
    writes: dropped.flatMap((message) => textDeletes(conversation_id, message)),
  };
}

/**
 * The chunks of which only messages before number `next` are read. Chunks beyond it become empty ranges, and the last
 * chunk is one, so that the chunk with the last messages is not written again.
 */
function sealChunks(chunks: readonly number[], next: number): readonly number[] {
  const cut = chunks.map((first) => Math.min(first, next));
  return cut.at(-1) === next ? cut : [...cut, next];
}
