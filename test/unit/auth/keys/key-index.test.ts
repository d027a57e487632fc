// A digest that may be that of a key is compared by Node's constant-time comparison, and never by one that ends at the
// first byte that differs.
import crypto, { createHash } from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import { afterEach, expect, it } from 'vitest';
import { createKeyIndex } from '../../../../shared/auth/keys/key-index.ts';
import type { ApiKey } from '../../../../shared/config/values/key-document.ts';

const { timingSafeEqual } = crypto;
afterEach(() => {
  crypto.timingSafeEqual = timingSafeEqual;
  syncBuiltinESMExports();
});

const digest = createHash('sha256').update('key').digest();
const key: ApiKey = { id: 'a', digest, scopes: new Set() };

/** Counts the calls of node's comparison. */
function watch(): () => number {
  let compared = 0;
  crypto.timingSafeEqual = (one, other) => {
    compared++;
    return timingSafeEqual(one, other);
  };
  syncBuiltinESMExports();
  return () => compared;
}

it('a digest that may be right is compared in constant time, to its last byte', () => {
  const index = createKeyIndex([key]);
  const compared = watch();
  expect(index.find(digest)?.id).toBe('a');
  expect(compared()).toBe(1);
  for (const byte of [4, 31]) {
    const near = Buffer.from(digest);
    near[byte] = (near[byte] ?? 0) ^ 1;
    expect(index.find(near)).toBeUndefined();
  }
  expect(compared()).toBe(3);
});
