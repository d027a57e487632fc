// Long texts. A Firestore document holds 1 MiB, a prompt may fill the whole body and an answer may be longer: a text
// that is too long for its message is stored in part documents, written with the message and never changed.
import { LRUCache } from 'lru-cache';
import { shareOfHeap } from '../../heap-share.ts';
import type { Store, Write } from '../../store/store.ts';
import { splitText } from '../../text.ts';
import { type StoredMessage, Texts, textRef } from './documents.ts';

/** Longer texts are stored in part documents, so that the conversation document stays small. */
export const INLINE_BYTES_MAX = 32 << 10;
/** UTF-16 units in one part: at most 3 bytes each in UTF-8, so 768 KiB. */
const PART_UNITS = 256 << 10;
const CACHE_BYTES_MAX = shareOfHeap(1 / 16, 32 << 20);

/** The parts of a text; none for a short one, which is stored in its message. */
export function toParts(text: string, bytes: number): readonly string[] {
  return bytes <= INLINE_BYTES_MAX ? [] : [...splitText(text, PART_UNITS)];
}

export function textWrites(conversation: string, seq: number, parts: readonly string[]): Write[] {
  return parts.map((text, part) => Texts.write(textRef(conversation, seq, part), { text }));
}

/** The deletes of the parts of one message. */
export function textDeletes(conversation: string, { seq, parts }: StoredMessage): Write[] {
  return Array.from({ length: parts }, (_, part) => ({ ref: textRef(conversation, seq, part), delete: true }));
}

/** The complete text of a message; '' if its parts no longer exist (the session was erased meanwhile). */
export type ReadText = (conversation: string, message: StoredMessage) => Promise<string>;

export function createTextReader(store: Store): ReadText {
  // The text of a message never changes.
  const cache = new LRUCache<string, string>({
    maxSize: CACHE_BYTES_MAX,
    sizeCalculation: (text) => text.length * 2 + 64,
  });
  return async (conversation, { seq, parts, turn_id, content }) => {
    if (parts === 0) return content;
    // The key contains the turn id, because a repeated prompt removes the answer of the earlier attempt and reuses its
    // number.
    const key = `${conversation}-${seq}-${turn_id}`;
    const cached = cache.get(key);
    if (cached !== undefined) return cached;
    const refs = Array.from({ length: parts }, (_, part) => textRef(conversation, seq, part));
    const snapshots = await store.get(refs);
    const text = snapshots.map((snapshot) => Texts.read(snapshot)?.text ?? '').join('');
    if (text !== '') cache.set(key, text);
    return text;
  };
}
