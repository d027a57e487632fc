// Long texts. A Firestore document holds 1 MiB, a prompt may fill the whole body and an answer may be longer: a text
// that is too long for its message is stored in part documents, written with the message and never changed.
import { LRUCache } from 'lru-cache';
import { shareOfHeap } from '../../../bounds/heap-share.ts';
import { splitText } from '../../../messages/text.ts';
import type { DocumentOf } from '../../../store/define-document.ts';
import type { Store, Write } from '../../../store/store.ts';
import { type StoredMessage, Texts, textRef } from '../documents.ts';

/** Longer texts are stored in part documents, so that the conversation document stays small. */
export const INLINE_BYTES_MAX = 32 << 10;
/** UTF-16 units in one part: at most 3 bytes each in UTF-8, so 768 KiB. */
const PART_UNITS = 256 << 10;
const CACHE_BYTES_MAX = shareOfHeap(1 / 16, 32 << 20);

/** The text of a message, and its detail (message-detail.ts) if it is more than text. */
export interface MessageContent {
  readonly text: string;
  readonly detail: string | undefined;
}

export type TextPart = DocumentOf<typeof Texts>;

/** The parts of a long message, of `bytes` in all; none for a short one, whose document contains it. */
export function toParts({ text, detail = '' }: MessageContent, bytes: number): readonly TextPart[] {
  if (bytes <= INLINE_BYTES_MAX) return [];
  const texts = Array.from(splitText(text, PART_UNITS), (piece) => ({ text: piece }));
  return [...texts, ...Array.from(splitText(detail, PART_UNITS), (piece) => ({ text: '', detail: piece }))];
}

/** Characters that the document of a message contains. */
export function charsOf({ content, detail = '' }: Pick<StoredMessage, 'content' | 'detail'>): number {
  return content.length + detail.length;
}

export function textWrites(conversation: string, seq: number, parts: readonly TextPart[]): Write[] {
  return parts.map((data, part) => Texts.write(textRef(conversation, seq, part), data));
}

/** The deletes of the parts of one message. */
export function textDeletes(conversation: string, { seq, parts }: StoredMessage): Write[] {
  return Array.from({ length: parts }, (_, part) => ({ ref: textRef(conversation, seq, part), delete: true }));
}

/** The complete content of a message; without text if its parts no longer exist (the session was erased meanwhile). */
export type ReadText = (conversation: string, message: StoredMessage) => Promise<MessageContent>;

export function createTextReader(store: Store): ReadText {
  // The content of a message never changes.
  const cache = new LRUCache<string, MessageContent>({
    maxSize: CACHE_BYTES_MAX,
    sizeCalculation: ({ text, detail = '' }) => (text.length + detail.length) * 2 + 64,
  });
  return async (conversation, { seq, parts, turn_id, content, detail }) => {
    if (parts === 0) return { text: content, detail };
    // The key contains the turn id, because a repeated prompt removes the answer of the earlier attempt and reuses its
    // number.
    const key = `${conversation}-${seq}-${turn_id}`;
    const cached = cache.get(key);
    if (cached !== undefined) return cached;
    const refs = Array.from({ length: parts }, (_, part) => textRef(conversation, seq, part));
    const documents = (await store.get(refs)).map((snapshot) => Texts.read(snapshot));
    const join = (name: 'text' | 'detail'): string => documents.map((document) => document?.[name] ?? '').join('');
    const read = { text: join('text'), detail: join('detail') || undefined };
    if (read.text !== '' || read.detail !== undefined) cache.set(key, read);
    return read;
  };
}
