// Counts the bytes of messages that an owner stores, and makes the refusal when the limit is reached. Each conversation
// has its own exact count; its growth is added to the document of the total in the owner's next write of usage
// (usage-ledger.ts), so that a prompt needs no further round trip.
import { z } from 'zod';
import { RpcError } from '../../errors.ts';
import { type DocumentOf, defineDocument, hashOwner } from '../../store/define-document.ts';
import type { Ref, Snapshot, Write } from '../../store/store.ts';
import type { ConversationDocument, StoredMessage } from './documents.ts';

/** Bytes of a message in addition to its text: number, time and turn. */
const MESSAGE_BYTES = 200;

/** The bytes of all conversations of an owner that have been counted. */
export const StorageTotals = defineDocument({
  collection: 'storage',
  schema: z.object({ owner: z.string(), bytes: z.number() }),
  owned: { idOf: hashOwner },
  id: 'hash of key id',
  holds: 'bytes of messages that a key keeps',
  writtenBy: 'turns that end, delete',
  kept: 'while the key keeps anything',
});
type StorageDocument = DocumentOf<typeof StorageTotals>;

export function storageRef(owner: string): Ref {
  return StorageTotals.ref(hashOwner(owner));
}

/** An owner without messages has no document, unless a newer version counts other data in it. */
export function storageWrite(before: StorageDocument, bytes: number): Write {
  const ref = storageRef(before.owner);
  const { owner: _owner, bytes: _bytes, ...others } = before;
  const isEmpty = bytes === 0 && Object.keys(others).length === 0;
  return isEmpty ? { ref, delete: true } : StorageTotals.write(ref, { ...before, bytes });
}

export function toStorage(snapshot: Snapshot | undefined, owner: string): StorageDocument {
  return StorageTotals.read(snapshot) ?? { owner, bytes: 0 };
}

export function messageBytes({ bytes }: Pick<StoredMessage, 'bytes'>): number {
  return bytes + MESSAGE_BYTES;
}

/**
 * The bytes that a conversation stores. In a document of an older version, which has no count, the messages in it are
 * counted.
 */
export function storedBytes({ stored_bytes, recent }: ConversationDocument): number {
  return stored_bytes ?? recent.reduce((sum, message) => sum + messageBytes(message), 0);
}

/**
 * Growth is not added to the total while it is less than this part of the total, and less than UNCOUNTED_BYTES: it
 * would cost a write. A deleted conversation subtracts exactly what it has added (`counted_bytes`).
 */
const UNCOUNTED_PART = 1 / 8;
const UNCOUNTED_BYTES = 64 << 10;

/** Counts the bytes of a conversation; also returns those that are added to the owner's total. */
export function withCounted(conversation: ConversationDocument): {
  readonly counted: ConversationDocument;
  readonly addedBytes: number;
} {
  const bytes = storedBytes(conversation);
  const inTotal = conversation.counted_bytes ?? 0;
  const growth = bytes - inTotal;
  if (growth >= 0 && growth < Math.min(inTotal * UNCOUNTED_PART, UNCOUNTED_BYTES)) {
    return { counted: { ...conversation, stored_bytes: bytes }, addedBytes: 0 };
  }
  return { counted: { ...conversation, stored_bytes: bytes, counted_bytes: bytes }, addedBytes: growth };
}

export function storageFull(storedBytes: number, limitBytes: number): RpcError {
  return new RpcError('storage_full', {
    message: 'Storage is full: delete sessions that are not needed any more with conversation.delete',
    data: { stored_bytes: storedBytes, limit_bytes: limitBytes, delete: ['conversation.delete'] },
  });
}
