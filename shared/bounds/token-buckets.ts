// Token buckets by key, in the memory of one instance, for limits that need not be exact across instances.
import { LRUCache } from 'lru-cache';
import type { Clock } from '../clock.ts';

export interface TokenBuckets {
  /** Takes `count` tokens, all or none. */
  take(key: string, count?: number): boolean;
  /** Takes tokens for work that is already done; the bucket may become negative. */
  spend(key: string, count: number): void;
  /** Milliseconds until the bucket has a token; 0 if it has one. */
  waitMs(key: string): number;
}

export interface TokenBucketsOptions {
  readonly clock: Pick<Clock, 'monotonic'>;
  readonly burst: number;
  readonly perSecond: number;
  /** Most keys; the least recently used one is evicted first and starts with a full bucket again. */
  readonly keysMax: number;
}

export function createTokenBuckets({ clock, burst, perSecond, keysMax }: TokenBucketsOptions): TokenBuckets {
  const buckets = new LRUCache<string, { readonly tokens: number; readonly atMs: number }>({ max: keysMax });

  function tokensOf(key: string): number {
    const bucket = buckets.get(key);
    if (bucket === undefined) return burst;
    return Math.min(burst, bucket.tokens + ((clock.monotonic() - bucket.atMs) / 1_000) * perSecond);
  }

  return {
    take(key, count = 1) {
      const tokens = tokensOf(key);
      if (tokens < count) return false;
      buckets.set(key, { tokens: tokens - count, atMs: clock.monotonic() });
      return true;
    },
    spend(key, count) {
      buckets.set(key, { tokens: tokensOf(key) - count, atMs: clock.monotonic() });
    },
    waitMs: (key) => Math.max(0, ((1 - tokensOf(key)) / perSecond) * 1_000),
  };
}
