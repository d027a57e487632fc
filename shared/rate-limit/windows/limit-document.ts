// The document that stores the windows of one key: its id, its schema and the revoke flag. The window arithmetic is
// windows.ts.
import { z } from 'zod';
import { defineDocument, hashOwner } from '../../store/define-document.ts';
import type { Ref, Snapshot, Store, Write } from '../../store/store.ts';
import { transact } from '../../store/transact.ts';
import { EMPTY_STATE, type Erased, type LimitState } from './limit-state.ts';
import { endOf } from './windows.ts';

/**
 * Retention after the end of the last window, milliseconds. For an instance whose clock is far ahead the document must
 * not have expired: it would start from zero, and its commit would erase the counts of all other instances.
 */
const RETENTION_MS = 800 * 86_400_000;

const Count = z.int().nonnegative();
const Window = z.object({
  window_ms: z.int().positive(),
  start_ms: Count,
  count: Count,
  since_ms: Count.exactOptional(),
  early: z.literal(true).exactOptional(),
});
const Label = z.object({ window_ms: z.int().positive(), start_ms: Count });
const Block = z.object({ id: z.string(), calls: Count, until_ms: Count, windows: z.array(Label) });
const Holder = z.object({ id: z.string(), rate: z.number().nonnegative(), seen_ms: Count, blocks: z.array(Block) });
export const Limits = defineDocument({
  collection: 'limits',
  schema: z.object({
    // Absent where an operator has revoked a key that was not used recently (terraform/README.md, "Revoke a key").
    windows: z.array(Window).exactOptional(),
    revoked: z.boolean(),
    // Instances that count in blocks. Older versions keep the field, and its calls are in the counts of the windows.
    holders: z.array(Holder).exactOptional(),
    erased: z.object({ at_ms: Count, day: z.string(), tokens: Count }).exactOptional(),
  }),
  owned: 'limits',
  id: 'hash of key id',
  holds: 'the windows, the revoke flag, the blocks of busy owners, the tokens of the day of an erasure',
  writtenBy: 'every call; for busy owners every block',
  kept: '800 days after the last window; that of a revoked key permanently',
});

/** `limits/<SHA-256 of the key id, base64url>`; the hash makes a valid document id of any key id. */
export function toLimitRef(keyId: string): Ref {
  return Limits.ref(hashOwner(keyId));
}

/**
 * The state in a document; EMPTY_STATE if it is absent. Throws for a malformed one: a default would admit calls without
 * counting the earlier ones.
 */
export function toLimitState(snapshot: Snapshot | undefined): LimitState {
  const document = Limits.read(snapshot);
  if (document === undefined) return EMPTY_STATE;
  const { windows } = document;
  return windows === undefined ? { ...document, windows: [] } : { ...document, windows };
}

/**
 * The write that stores a state. The document of a revoked key never expires, because the revocation would expire with
 * it.
 */
export function toLimitWrite(ref: Ref, state: LimitState): Write {
  return Limits.write(ref, state, state.revoked ? {} : { expireAtMs: endOf(state) + RETENTION_MS });
}

/**
 * Tolerated clock skew. A write of usage that began up to this long after an erasure, by the clock of its instance,
 * counts as begun before it: its tokens are then added to those that outlive the erasure, so that no spend is lost.
 */
const ERASED_SKEW_MS = 2_000;

/** The last erasure of the key's documents; undefined if there was none. */
export function erasureOf(snapshot: Snapshot | undefined): Erased | undefined {
  return Limits.read(snapshot)?.erased;
}

/** Whether a write that began at `sinceMs` began before the erasure. */
export function isBefore(erased: Erased | undefined, sinceMs: number): boolean {
  return erased !== undefined && sinceMs <= erased.at_ms + ERASED_SKEW_MS;
}

/** Adds tokens of `day` to those that outlive the erasure. `atMs`: of the erasure, if it is another one. */
export function erasureWrite(
  snapshot: Snapshot,
  { atMs, day, tokens }: { readonly atMs: number; readonly day: string; readonly tokens: number },
): Write {
  const state = toLimitState(snapshot);
  const before = state.erased?.day === day ? state.erased.tokens : 0;
  const erased = { at_ms: Math.max(0, Math.round(atMs)), day, tokens: before + tokens };
  const expiry = state.revoked ? {} : { expireAtMs: Math.max(endOf(state), erased.at_ms) + RETENTION_MS };
  return Limits.write(snapshot.ref, { ...state, erased }, expiry);
}

/**
 * Sets or clears the revoke flag of a key. It takes effect at the next call on every instance: the document's version
 * changes, so an instance with a cached copy conflicts, reads again and finds the flag. An instance that holds a block
 * of the key finds it within 2 s. The counts are kept. The PATCH request in terraform/README.md does the same.
 */
export async function setRevoked(store: Store, keyId: string, revoked: boolean): Promise<void> {
  const ref = toLimitRef(keyId);
  await transact(store, [ref], ([snapshot]) => {
    const state = toLimitState(snapshot);
    return { writes: [toLimitWrite(ref, { ...state, revoked })], result: undefined };
  });
}
