// The Limiter port. document-limiter.ts implements it over a Store; windows/windows.ts contains the arithmetic.
import type { Limit } from '../config/values/limits.ts';
import type { Ride } from '../store/ride.ts';

/**
 * The decision about one request, with the values of the rate limit headers. They describe the tightest window: the
 * refusing one that resets last, else the one with the fewest calls left (among equals the one that resets last).
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
   * Milliseconds until a retry; set when `rate_limited` or `unavailable`. A retry never succeeds for a revoked key, nor
   * for a cost above a limit.
   */
  readonly retryAfterMs?: number;
}

export interface TakeRequest {
  readonly keyId: string;
  readonly limits: readonly Limit[];
  /** Calls to charge, all or none: 1, or the length of a batch. 0: a free call, refused only for a revoked key. */
  readonly cost: number;
  /** Whether this may be admitted by the per-instance bucket while the store is down (cheap reads only). */
  readonly mayDegrade: boolean;
  readonly signal?: AbortSignal;
  /**
   * The first commit of the call, which may join the one that counts it. It is stored only if the call is admitted. The
   * caller ends the ride when it has the decision.
   */
  readonly ride?: Ride | undefined;
}

/** Decides requests and counts the admitted ones. */
export interface Limiter {
  /** Rejects with the signal's reason if the signal aborts before the decision; the call is then not charged. */
  take(request: TakeRequest): Promise<RateDecision>;
  /** Gives back what blocks have left, within a second, and takes no more of them. Never rejects. */
  close?(): Promise<void>;
}
