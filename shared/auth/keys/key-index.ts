// The one lookup of a presented digest among known keys. Refuses nothing itself: expiry and scopes are judged by its
// callers.
import { timingSafeEqual } from 'node:crypto';
import type { ApiKey } from '../../config/key-document.ts';

/** Keys by digest; where two keys have the same digest the first one given wins. */
export interface KeyIndex {
  readonly size: number;
  /** Compares in constant time within the few keys whose digest starts with the same 32 bits. `digest`: 32 bytes. */
  find(digest: Uint8Array): ApiKey | undefined;
}

/** Builds the index; later keys with a digest already seen are dropped. */
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
