// Looks up a key by its digest. Callers check expiry and scopes.
import { timingSafeEqual } from 'node:crypto';
import type { ApiKey } from '../../config/values/key-document.ts';

/** Keys by digest; of two keys with the same digest the first one is used. */
export interface KeyIndex {
  readonly size: number;
  /** Compares in constant time the keys whose digest starts with the same 32 bits. `digest`: 32 bytes. */
  find(digest: Uint8Array): ApiKey | undefined;
}

/** Builds the index; drops later keys with a digest that is already in it. */
export function createKeyIndex(keys: readonly ApiKey[]): KeyIndex {
  const buckets = new Map<number, ApiKey[]>();
  let size = 0;
  const find = (digest: Uint8Array): ApiKey | undefined => {
    let found: ApiKey | undefined;
    for (const key of buckets.get(prefixOf(digest)) ?? []) {
      if (timingSafeEqual(key.digest, digest)) found = key;
    }
    return found;
  };
  for (const key of keys) {
    if (find(key.digest) !== undefined) continue;
    const prefix = prefixOf(key.digest);
    const bucket = buckets.get(prefix);
    if (bucket === undefined) buckets.set(prefix, [key]);
    else bucket.push(key);
    size++;
  }
  return { size, find };
}

function prefixOf(digest: Uint8Array): number {
  return ((digest[0] ?? 0) << 24) | ((digest[1] ?? 0) << 16) | ((digest[2] ?? 0) << 8) | (digest[3] ?? 0);
}
