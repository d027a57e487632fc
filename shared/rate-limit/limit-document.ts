// The one document a key's limits live in: its address, its shape and the operator's switch. Decides nothing about
// windows.
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { defineDocument } from '../store/define-document.ts';
import type { Ref, Snapshot, Store, Write } from '../store/store.ts';
import { transact } from '../store/transact.ts';
import { EMPTY_STATE, endOf, type LimitState } from './windows.ts';

/**
 * Kept this long after its last window ended. An instance whose clock is far ahead must not find the document gone: it
 * would start over, and the counts of all others would be lost.
 */
const RETENTION_MS = 800 * 86_400_000;

const Count = z.int().nonnegative();
const Window = z.object({
  window_ms: z.int().positive(),
  start_ms: Count,
  count: Count,
  since_ms: Count.exactOptional(),
});
export const Limits = defineDocument({
  collection: 'limits',
  schema: z.object({
    // Absent where an operator has revoked a key that was not used recently (terraform/README.md, "Revoke a key").
    windows: z.array(Window).exactOptional(),
    revoked: z.boolean(),
  }),
  id: 'hash of key id',
  holds: 'the windows, the revoke flag',
  writtenBy: 'every call',
  kept: '800 days after the last window; a revoked key’s for good',
});

/** `limits/<SHA-256 of the key id, base64url>`, so that any key id is a legal document id. */
export function toLimitRef(keyId: string): Ref {
  return Limits.ref(createHash('sha256').update(keyId).digest('base64url'));
}

/** An absent document is an unused key. A malformed one throws: a guess would admit calls that are not counted. */
export function toLimitState(snapshot: Snapshot | undefined): LimitState {
  const document = Limits.read(snapshot);
  if (document === undefined) return EMPTY_STATE;
  const { windows } = document;
  return windows === undefined ? { ...document, windows: [] } : { ...document, windows };
}

/**
 * The write that stores a state. A revoked key's document never expires, else the revocation would be forgotten with
 * it.
 */
export function toLimitWrite(ref: Ref, state: LimitState): Write {
  return Limits.write(ref, state, state.revoked ? {} : { expireAtMs: endOf(state) + RETENTION_MS });
}

/**
 * Revokes a key at once on every instance (or takes that back): the document's version changes, so an instance that
 * holds it in memory conflicts at its next call, reads again and sees the flag. What the key has used is kept. An
 * operator does the same by the PATCH of terraform/README.md.
 */
export async function setRevoked(store: Store, keyId: string, revoked: boolean): Promise<void> {
  const ref = toLimitRef(keyId);
  await transact(store, [ref], ([snapshot]) => {
    const state = toLimitState(snapshot);
    return { writes: [toLimitWrite(ref, { ...state, revoked })], result: undefined };
  });
}
