// Remembers refusals that another instance has decided, so that the next calls of the key are refused here at no cost.
// It admits nothing: a call without a remembered refusal is decided by the limiter.
import { LRUCache } from 'lru-cache';
import type { Clock } from '../clock.ts';
import { areSameLimits, type Limit } from '../config/values/limits.ts';
import type { Limiter, RateDecision, TakeRequest } from './limiter.ts';

/** A refusal is trusted this long, so that a reset by an operator takes effect within a minute. */
const TRUST_MS = 60_000;
/** Shorter, so that a withdrawn revocation takes effect within seconds. */
const TRUST_REVOKED_MS = 5_000;
const KEYS_MAX = 10_000;

interface Remembered {
  readonly decision: RateDecision;
  readonly limits: readonly Limit[];
  /** Monotonic milliseconds. */
  readonly atMs: number;
}

export interface RememberedRefusals {
  /** The limiter behind this memory. */
  readonly limiter: Limiter;
  /** Whether a call of the key is refused from memory. */
  isRefused(request: Pick<TakeRequest, 'keyId' | 'limits'>): boolean;
  /** Remembers the refusal of a call that cost 1. */
  remember(request: Pick<TakeRequest, 'keyId' | 'limits'>, decision: RateDecision): void;
}

export function createRememberedRefusals(limiter: Limiter, clock: Clock): RememberedRefusals {
  const refusals = new LRUCache<string, Remembered>({ max: KEYS_MAX });

  function find({ keyId, limits }: Pick<TakeRequest, 'keyId' | 'limits'>): RateDecision | undefined {
    const found = refusals.get(keyId);
    if (found === undefined) return undefined;
    const { decision, atMs } = found;
    const elapsedMs = clock.monotonic() - atMs;
    const trustMs = decision.outcome === 'revoked' ? TRUST_REVOKED_MS : TRUST_MS;
    const leftMs = decision.retryAfterMs === undefined ? undefined : decision.retryAfterMs - elapsedMs;
    // The window has ended, or the limits of the key have changed.
    if (elapsedMs >= trustMs || (leftMs !== undefined && leftMs <= 0) || !areSameLimits(found.limits, limits)) {
      refusals.delete(keyId);
      return undefined;
    }
    return leftMs === undefined ? decision : { ...decision, retryAfterMs: leftMs };
  }

  return {
    limiter: {
      async take(request) {
        const refusal = find(request);
        // A free call fails only for a revoked key.
        const isRefused = refusal !== undefined && (request.cost > 0 || refusal.outcome === 'revoked');
        return isRefused ? refusal : limiter.take(request);
      },
    },
    isRefused: (request) => find(request) !== undefined,
    remember({ keyId, limits }, decision) {
      refusals.set(keyId, { decision, limits, atMs: clock.monotonic() });
    },
  };
}
