// Admits an authenticated caller: charges its limits, then checks its scope. Returns the limiter's decision and the
// refusal, if any. Used by JSON-RPC, webhooks and the verbose health check.

import type { Scope } from '../config/values/key-document.ts';
import { RpcError } from '../errors.ts';
import type { Limiter, RateDecision } from '../rate-limit/limiter.ts';
import type { Ride } from '../store/ride.ts';
import type { Caller } from './keys/keys.ts';

export interface AdmitRequest {
  /** Calls to charge, all or none. */
  readonly cost: number;
  /** The scope that the caller needs; null: any caller, or the scope is checked per call. */
  readonly scope: Scope | null;
  /** Whether a bucket of this instance may admit the request while the store is down (cheap reads only). */
  readonly mayDegrade: boolean;
  readonly signal?: AbortSignal;
  /** The first commit of the call, which the limiter may carry; ended with the decision. */
  readonly ride?: Ride | undefined;
}

export interface Admission {
  /** The decision of the limiter, for the response headers. */
  readonly rate: RateDecision;
  /** The error to send; undefined: admitted. */
  readonly refusal: RpcError | undefined;
}

/** Rejects with the signal's reason if the signal aborts before the decision; the call is then not charged. */
export type Admit = (caller: Caller, request: AdmitRequest) => Promise<Admission>;

export function createAdmit(limiter: Limiter): Admit {
  return async (caller, { cost, scope, mayDegrade, signal, ride }) => {
    const { keyId, limits } = caller;
    const missing = missingScope(caller, scope);
    if (missing !== undefined) ride?.end('left');
    try {
      const rate = await limiter.take({ keyId, limits, cost, mayDegrade, ride, ...(signal && { signal }) });
      return { rate, refusal: toRefusal(rate, cost, caller) ?? missing };
    } finally {
      ride?.end('left');
    }
  };
}

/** RpcError `forbidden` if the caller lacks the scope; undefined otherwise. */
export function missingScope({ keyId, scopes }: Caller, scope: string | null): RpcError | undefined {
  const held: ReadonlySet<string> = scopes;
  if (scope === null || held.has(scope)) return undefined;
  return new RpcError('forbidden', {
    message: `Forbidden: key "${keyId}" lacks the scope "${scope}"`,
    data: { missing_scope: scope },
  });
}

function toRefusal(rate: RateDecision, cost: number, { limits }: Caller): RpcError | undefined {
  const { outcome, limit, remaining, resetAtMs, retryAfterMs } = rate;
  const wait = retryAfterMs === undefined ? {} : { retryAfterMs };
  switch (outcome) {
    case 'admitted':
      return undefined;
    case 'revoked':
      return new RpcError('unauthorized', wait);
    case 'unavailable':
      return new RpcError('unavailable', wait);
    case 'rate_limited': {
      // A batch with more calls than a limit is never admitted, so the error is not retryable.
      const mayPass = limits.every(({ max }) => cost <= max);
      return new RpcError('rate_limited', {
        ...wait,
        ...(!mayPass && { retryable: false, message: 'Too Many Requests: the batch is larger than the limit' }),
        data: { limit, remaining, reset: Math.ceil(resetAtMs / 1_000) },
      });
    }
  }
}
