// The Limiter port as the gates see it. The rule itself (windows.ts) and its transactions (document-limiter.ts) stand
// beside it.
import type { Limit } from '../config/limits.ts';

/**
 * The decision about one request and the facts its headers carry: those of the tightest window, i.e. the one that
 * refuses longest, else the one with the fewest calls left (ties: the one that resets last).
 */
export interface RateDecision {
  readonly outcome: 'admitted' | 'rate_limited' | 'revoked' | 'unavailable';
  /** True when the store is down and a small per-instance bucket decided. */
  readonly degraded: boolean;
  readonly limit: number;
  readonly remaining: number;
  /** Epoch milliseconds at which the tightest window ends. */
  readonly resetAtMs: number;
  /**
   * Milliseconds to wait; set when `rate_limited` or `unavailable`. Waiting does not help a revoked key, nor a cost
   * above a limit.
   */
  readonly retryAfterMs?: number;
}

export interface TakeRequest {
  readonly keyId: string;
  readonly limits: readonly Limit[];
  /**
   * Calls to charge, all or none: 1, or the length of a batch; 0 for free calls, which only a revoked key may not make.
   */
  readonly cost: number;
  /** Whether this may be admitted by the per-instance bucket while the store is down (cheap reads only). */
  readonly mayDegrade: boolean;
  readonly signal?: AbortSignal;
}

/** Rejects with the signal's reason when the caller left before its call was decided; it is then not charged. */
export interface Limiter {
  take(request: TakeRequest): Promise<RateDecision>;
}
