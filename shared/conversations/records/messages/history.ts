// The history of a conversation: the newest messages are in its document, older ones in chunk documents
// (message-chunks.ts), long texts in parts (texts.ts).
import type { MessagePart } from '../../../messages/message-parts.ts';
import type { Store, Write } from '../../../store/store.ts';
import type { ConversationDocument, StoredMessage } from '../documents.ts';
import { CHUNKS_AT_ONCE, type Context, readContext } from './context.ts';
import { copyMessages, countBytes } from './copy-messages.ts';
import { createMessageChunks, liveChunks } from './message-chunks.ts';
import { decodeDetail } from './message-detail.ts';
import type { ChangedMessages } from './messages.ts';
import { createTextReader, type MessageContent } from './texts.ts';

/** Bytes of the texts that are read together; a longer text is read alone. */
const STEP_BYTES = 512 << 10;

/** A message with its complete text, and its parts if it is more than text. */
export type MessageText = Omit<StoredMessage, 'parts'> & {
  readonly text: string;
  readonly parts: readonly MessagePart[] | undefined;
};

export interface History {
  /**
   * The messages sent to the model in turn `turnId`: the newest ones that fit into `budgetTokens`, oldest first; the
   * prompt of the turn is last and always included.
   */
  context(conversation: ConversationDocument, budgetTokens: number, turnId: string): Promise<Context>;
  /** Reads the newest of the older messages, so that `context` has them in memory. */
  prefetch(conversation: ConversationDocument): Promise<void>;
  /** The bytes of all messages, as they are counted. */
  countBytes(source: ConversationDocument): Promise<number>;
  /** The writes of a copy of the messages (copy-messages.ts). Throws SourceChanged. */
  copy(source: ConversationDocument, copyId: string): AsyncGenerator<readonly Write[], void, void>;
  /** Moves the older half of a full document's messages to a chunk; returns the smaller document. */
  compact(conversation: ConversationDocument): Promise<ChangedMessages>;
  /**
   * Messages with seq > `afterSeq`, oldest first. They are read in steps as the caller takes them: one that stops early
   * has read about STEP_BYTES more than it took.
   */
  read(conversation: ConversationDocument, afterSeq?: number): AsyncGenerator<MessageText, void, void>;
  /** Messages with seq < `beforeSeq`, newest first, read in the same way. */
  readBack(conversation: ConversationDocument, beforeSeq?: number): AsyncGenerator<MessageText, void, void>;
}

export function createHistory(store: Store): History {
  const chunks = createMessageChunks(store);
  const readText = createTextReader(store);

  /** Yields the messages of the chunks, then those in the document. */
  async function* messagesAfter(
    conversation: ConversationDocument,
    afterSeq: number,
  ): AsyncGenerator<readonly StoredMessage[], void, void> {
    const isAfter = (message: StoredMessage): boolean => message.seq > afterSeq;
    const first = conversation.chunks.findLastIndex((firstSeq) => firstSeq <= afterSeq + 1);
    for (const chunk of liveChunks(conversation).filter((index) => index >= first)) {
      const [document] = await chunks.read(conversation, [chunk]);
      yield (document?.messages ?? []).filter(isAfter);
    }
    yield conversation.recent.filter(isAfter);
  }

  /** Yields the messages in the document, then those of the chunks, each newest first. */
  async function* messagesBefore(
    conversation: ConversationDocument,
    beforeSeq: number,
  ): AsyncGenerator<readonly StoredMessage[], void, void> {
    const isBefore = (message: StoredMessage): boolean => message.seq < beforeSeq;
    yield conversation.recent.filter(isBefore).toReversed();
    const last = conversation.chunks.findLastIndex((first) => first < beforeSeq);
    for (const chunk of liveChunks(conversation).toReversed()) {
      if (chunk > last) continue;
      const [document] = await chunks.read(conversation, [chunk]);
      yield (document?.messages ?? []).filter(isBefore).toReversed();
    }
  }

  /** Reads the contents of the messages in steps. */
  async function* withContents(
    id: string,
    found: AsyncGenerator<readonly StoredMessage[], void, void>,
  ): AsyncGenerator<MessageText, void, void> {
    for await (const messages of found) {
      for (let start = 0; start < messages.length; ) {
        const step = messages.slice(start, start + stepLength(messages, start));
        const contents = await Promise.all(step.map((message) => readText(id, message)));
        for (const [index, message] of step.entries()) yield toMessageText(message, contents[index]);
        start += step.length;
      }
    }
  }

  return {
    context: (conversation, budgetTokens, turnId) =>
      readContext({ chunks, readText }, conversation, budgetTokens, turnId),

    prefetch: async (conversation) => {
      const newest = liveChunks(conversation).slice(-CHUNKS_AT_ONCE);
      if (newest.length > 0) await chunks.read(conversation, newest);
    },

    countBytes: (source) => countBytes({ chunks, readText }, source),
    copy: (source, copyId) => copyMessages({ chunks, readText }, source, copyId),

    compact: chunks.compact,

    read: (conversation, afterSeq = 0) =>
      withContents(conversation.conversation_id, messagesAfter(conversation, afterSeq)),

    readBack: (conversation, beforeSeq = Number.POSITIVE_INFINITY) =>
      withContents(conversation.conversation_id, messagesBefore(conversation, beforeSeq)),
  };
}

function toMessageText(message: StoredMessage, content: MessageContent | undefined): MessageText {
  const { text = '', detail } = content ?? {};
  return { ...message, text, parts: detail === undefined ? undefined : decodeDetail(text, detail) };
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
