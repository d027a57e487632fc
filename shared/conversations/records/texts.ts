// Long texts. A Firestore document holds 1 MiB, a prompt may fill the whole body and an answer more: what is too long
// for a message lives in part documents, written with the message and never changed.
import type { Snapshot, Store, Write } from '../../store/store.ts';
import { splitText } from '../../text.ts';
import { type StoredMessage, textRef } from './documents.ts';

/** Longer texts are stored out of line, so that the conversation document stays small on the hot path. */
export const INLINE_BYTES_MAX = 32 << 10;
/** UTF-16 units in one part: at most 3 bytes each in UTF-8, so 768 KiB. */
const PART_UNITS = 256 << 10;

interface TextDocument {
  readonly text: string;
}

/** The parts of a text; none for a short one, which is stored in its message. */
export function toParts(text: string, bytes: number): readonly string[] {
  return bytes <= INLINE_BYTES_MAX ? [] : [...splitText(text, PART_UNITS)];
}

export function textWrites(conversation: string, seq: number, parts: readonly string[]): Write[] {
  return parts.map((text, part) => ({ ref: textRef(conversation, seq, part), data: { text } satisfies TextDocument }));
}

/** The deletes of the parts of one message. */
export function textDeletes(conversation: string, { seq, parts }: StoredMessage): Write[] {
  return Array.from({ length: parts }, (_, part) => ({ ref: textRef(conversation, seq, part), delete: true }));
}

/** Reads the parts of one message back together; '' for a part that is gone (the session was erased meanwhile). */
export async function readText(store: Store, conversation: string, seq: number, parts: number): Promise<string> {
  const refs = Array.from({ length: parts }, (_, part) => textRef(conversation, seq, part));
  const snapshots: Snapshot<TextDocument>[] = await store.get<TextDocument>(refs);
  return snapshots.map((snapshot) => snapshot.data?.text ?? '').join('');
}
