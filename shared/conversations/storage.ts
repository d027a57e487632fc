// What an owner keeps, in bytes of messages: what counts, the document of the total, and the refusal. Each conversation
// carries its own exact count; what it has grown by joins the owner's next write of usage (usage-ledger.ts), so that a
// prompt costs no round trip more.
import { createHash } from 'node:crypto';
import { RpcError } from '../errors.ts';
import type { Ref, Snapshot, Write } from '../store/store.ts';
import type { ConversationDocument, StoredMessage } from './records/documents.ts';

/** Beside its text: what a message takes for its place, time and turn. */
const MESSAGE_BYTES = 200;

/** `storage/<hash of owner>`: the bytes of all conversations of an owner that have been counted. No TTL. */
export interface StorageDocument {
  readonly owner: string;
  readonly bytes: number;
}

export function storageRef(owner: string): Ref {
  return { collection: 'storage', id: createHash('sha256').update(owner).digest('base64url') };
}

/** An owner that keeps nothing has no document. */
export function storageWrite(owner: string, bytes: number): Write {
  const ref = storageRef(owner);
  return bytes === 0 ? { ref, delete: true } : { ref, data: { owner, bytes } satisfies StorageDocument };
}

export function toStorage(snapshot: Snapshot | undefined, owner: string): StorageDocument {
  return (snapshot?.data as StorageDocument | undefined) ?? { owner, bytes: 0 };
}

export function messageBytes({ bytes }: Pick<StoredMessage, 'bytes'>): number {
  return bytes + MESSAGE_BYTES;
}

/**
 * What a conversation keeps. One of an older version is counted from what is in its document, once that is written
 * again.
 */
export function storedBytes({ stored_bytes, recent }: ConversationDocument): number {
  return stored_bytes ?? recent.reduce((sum, message) => sum + messageBytes(message), 0);
}

/** The conversation with everything counted, and the bytes that the owner's total does not have yet. */
export function withCounted(conversation: ConversationDocument): {
  readonly counted: ConversationDocument;
  readonly addedBytes: number;
} {
  const bytes = storedBytes(conversation);
  const counted = { ...conversation, stored_bytes: bytes, counted_bytes: bytes };
  return { counted, addedBytes: bytes - (conversation.counted_bytes ?? 0) };
}

export function storageFull(storedBytes: number, limitBytes: number): RpcError {
  return new RpcError('storage_full', {
    message: 'Storage is full: delete sessions that are not needed any more with conversation.delete',
    data: { stored_bytes: storedBytes, limit_bytes: limitBytes, delete: ['conversation.delete'] },
  });
}
