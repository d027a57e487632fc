// The log line of a call: key id, method, transport, outcome, duration and rate limit decision. No params and no
// content.
import type { Caller } from './auth/keys/keys.ts';
import type { RpcError } from './errors.ts';
import { causeOf, errorFields, type Logger, severityOf } from './log.ts';
import type { RateDecision } from './rate-limit/limiter.ts';
import type { CallRecord } from './rpc/exchange.ts';
import type { Timings } from './telemetry/timings.ts';

export interface AuditedRequest {
  readonly requestId: string;
  readonly caller: Caller;
  readonly transport: 'http' | 'sse' | 'ws';
  readonly rate: RateDecision | undefined;
  readonly timings: Timings;
}

/** Writes the log line of one call. `rate` is undefined for a call that the limiter did not count. */
export function auditCall(
  log: Logger,
  record: CallRecord,
  { requestId, caller, transport, rate, timings }: AuditedRequest,
): void {
  const isInternal = record.outcome === 'internal';
  const cause = record.error?.cause;
  log.log(severityOf(record.outcome), 'call', {
    request_id: requestId,
    key_id: caller.keyId,
    transport,
    method: record.method,
    outcome: record.outcome,
    ms: Math.round(record.durationMs * 1_000) / 1_000,
    overhead_ms: timings.overheadMs(),
    stages: timings.phases(),
    rate: rate && (rate.degraded ? `${rate.outcome} (degraded)` : rate.outcome),
    remaining: rate?.remaining,
    ...record.details,
    ...(record.error !== undefined && definedOnly(upstreamFields(record.error))),
    ...(cause === undefined || !(isInternal || record.outcome === 'unavailable') ? {} : errorFields(cause)),
  });
}

/** Without members that are undefined, which would replace those of the call. */
function definedOnly(fields: object): object {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

/** Fields about a failure of the provider: what it was, and the error below it. */
function upstreamFields(error: RpcError): Record<string, unknown> {
  const { provider, model, status, session_id, turn_id } = error.data;
  const isUpstream = error.reason === 'upstream_error' || error.reason === 'upstream_timeout';
  if (!isUpstream) return turn_id === undefined ? {} : { session_id, turn_id, provider, model, status };
  return { session_id, turn_id, provider, model, status, error: error.message, cause: causeOf(error) };
}
