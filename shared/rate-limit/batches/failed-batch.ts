// Decides the calls of a transaction that has failed.
import type { Clock } from '../../clock.ts';
import { RpcError } from '../../errors.ts';
import { errorFields, type Logger } from '../../log.ts';
import { NewerFormat } from '../../store/define-document.ts';
import type { Entry } from '../counting/entries.ts';
import { type Outage, unavailable } from '../counting/outage.ts';
import type { RateDecision, TakeRequest } from '../limiter.ts';

export interface FailureDeps {
  readonly clock: Clock;
  readonly log: Logger | undefined;
  readonly outage: Outage;
}

/** Records and logs the failure; returns the decision for each call of the batch. */
export function decideFailed(
  { clock, log, outage }: FailureDeps,
  error: unknown,
): (entry: Entry, request: TakeRequest) => RateDecision {
  const nowMs = clock.now();
  if (isUnavailable(error)) {
    const atMs = clock.monotonic();
    if (outage.failed(atMs)) log?.log('ERROR', 'rate limiter store unavailable', errorFields(error));
    return (entry, request) => outage.decide(request, entry.bucket, { nowMs, atMs });
  }
  log?.log('ERROR', 'rate limiter transaction failed', errorFields(error));
  return (_entry, request) => unavailable(request.limits, 1_000, nowMs);
}

/**
 * Whether the store could not be reached. Only this counts as an outage; a document that cannot be read affects one key
 * only.
 */
export function isUnavailable(error: unknown): boolean {
  return error instanceof RpcError && error.reason === 'unavailable' && !(error instanceof NewerFormat);
}
