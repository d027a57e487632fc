// The one document a key's limits live in: its address, its shape and the operator's switch. Decides nothing about
// windows.
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Ref, Store, Write } from '../store/store.ts';
import { transact } from '../store/transact.ts';
import { EMPTY_STATE, endOf, type LimitState } from './windows.ts';

/**
 * Kept this long after its last window ended. An instance whose clock is far ahead must not find the document gone: it
 * would start over, and the counts of all others would be lost.
 */
const RETENTION_MS = 800 * 86_400_000;

const Count = z.int().nonnegative();
const LimitDocument = z.object({
  // Absent where an operator has revoked a key that was not used recently (terraform/README.md, "Revoke a key").
  windows: z
    .array(z.object({ window_ms: z.int().positive(), start_ms: Count, count: Count, since_ms: Count.optional() }))
    .default([]),
  revoked: z.boolean(),
});

/** `limits/<SHA-256 of the key id, base64url>`, so that any key id is a legal document id. */
export function toLimitRef(keyId: string): Ref {
  return { collection: 'limits', id: createHash('sha256').update(keyId).digest('base64url') };
}

/** An absent document is an unused key. A malformed one throws: a guess would admit calls that are not counted. */
export function toLimitState(data: object | undefined): LimitState {
  return data === undefined ? EMPTY_STATE : LimitDocument.parse(data);
}

/**
 * The write that stores a state. A revoked key's document never expires, else the revocation would be forgotten with
 * it.
 */
export function toLimitWrite(ref: Ref, state: LimitState): Write {
  return state.revoked ? { ref, data: state } : { ref, data: state, expireAtMs: endOf(state) + RETENTION_MS };
}

/**
 * Revokes a key at once on every instance (or takes that back): the document's version changes, so an instance that
 * holds it in memory conflicts at its next call, reads again and sees the flag. What the key has used is kept. An
 * operator does the same by the PATCH of terraform/README.md.
 */
export async function setRevoked(store: Store, keyId: string, revoked: boolean): Promise<void> {
  const ref = toLimitRef(keyId);
  await transact(store, [ref], ([snapshot]) => {
    const state = toLimitState(snapshot?.data);
    return { writes: [toLimitWrite(ref, { ...state, revoked })], result: undefined };
  });
}
