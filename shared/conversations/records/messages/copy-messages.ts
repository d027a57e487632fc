// Copies the messages of a conversation to another one: returns what its document contains of them, and the writes of
// its other documents in steps of bounded size. Dropped messages are not copied.
import type { Write } from '../../../store/store.ts';
import { type ConversationDocument, Messages, messagesRef, type StoredMessage } from '../documents.ts';
import { messageBytes } from '../storage.ts';
import { liveChunks, type MessageChunks } from './message-chunks.ts';
import { type ReadText, textWrites, toParts } from './texts.ts';

/** A step ends at this many bytes of messages, or writes; a commit holds 10 MiB. */
const STEP_BYTES = 2 << 20;
const STEP_WRITES = 200;
/** Chunks in one read. */
const CHUNKS_AT_ONCE = 32;

export interface CopyDeps {
  readonly chunks: MessageChunks;
  readonly readText: ReadText;
}

/** A text of the source is no longer stored: its message was dropped, or the session erased, since it was read. */
export class SourceChanged extends Error {}

/** The members of a conversation document that describe its messages, for a copy of `source`. */
export function copiedMembers(source: ConversationDocument): Partial<ConversationDocument> {
  const { message_count, message_tokens, recent, chunks } = source;
  return {
    message_count,
    ...(message_tokens !== undefined && { message_tokens }),
    recent,
    chunks: liveChunks(source).map((index) => chunks[index] ?? 0),
  };
}

/** The bytes of all messages, as they are counted (storage.ts). */
export async function countBytes({ chunks }: CopyDeps, source: ConversationDocument): Promise<number> {
  let bytes = sumOf(source.recent);
  for (const indexes of inGroups(liveChunks(source))) {
    for (const { messages } of await chunks.read(source, indexes)) bytes += sumOf(messages);
  }
  return bytes;
}

/** Throws SourceChanged. */
export async function* copyMessages(
  { chunks, readText }: CopyDeps,
  source: ConversationDocument,
  copyId: string,
): AsyncGenerator<readonly Write[], void, void> {
  let writes: Write[] = [];
  let bytes = 0;
  async function* copyTexts(messages: readonly StoredMessage[]): AsyncGenerator<readonly Write[], void, void> {
    for (const message of messages) {
      bytes += messageBytes(message);
      if (message.parts > 0) {
        const content = await readText(source.conversation_id, message);
        const parts = toParts(content, message.bytes);
        if (content.text === '' && content.detail === undefined) throw new SourceChanged();
        writes.push(...textWrites(copyId, message.seq, parts));
      }
      if (bytes < STEP_BYTES && writes.length < STEP_WRITES) continue;
      yield writes;
      writes = [];
      bytes = 0;
    }
  }
  const live = liveChunks(source);
  for (const [copied, index] of live.entries()) {
    const [chunk = { messages: [] }] = await chunks.read(source, [index]);
    // Written before its texts, because an erasure of an incomplete copy finds the texts by the messages.
    writes.push(Messages.write(messagesRef(copyId, copied), chunk));
    yield* copyTexts(chunk.messages);
  }
  yield* copyTexts(source.recent);
  if (writes.length > 0) yield writes;
}

function sumOf(messages: readonly StoredMessage[]): number {
  return messages.reduce((sum, message) => sum + messageBytes(message), 0);
}

function* inGroups(indexes: readonly number[]): Generator<readonly number[], void, void> {
  for (let start = 0; start < indexes.length; start += CHUNKS_AT_ONCE)
    yield indexes.slice(start, start + CHUNKS_AT_ONCE);
}
