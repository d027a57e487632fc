// A whole request of the jsonrpc function that the companion answers: the function sends the body as it was received,
// and relays the response to the caller unchanged. The companion authenticates the function, counts the call and
// reports, in a header that is not relayed, what the function has to remember.
import type { IncomingMessage } from 'node:http';
import { z } from 'zod';
import type { RateDecision } from '../rate-limit/limiter.ts';
import { traceHeaders } from '../telemetry/trace.ts';
import { CALL_HEADER, encodeFacts, type ForwardedFacts } from './call.ts';
import { type CompanionAccess, toUnreachable } from './http-companion.ts';

/** Path of the companion. An older version responds with 404. */
export const EXCHANGE_PATH = '/exchange';
/** Header in every response of the companion to an exchange, and in no other response. */
export const REPORT_HEADER = 'x-gateway-report';

/** Unknown members are ignored, because function and companion are not updated at the same time. */
const ReportWire = z.object({
  model_ms: z.number().min(0).catch(0),
  refusal: z
    .object({
      outcome: z.enum(['rate_limited', 'revoked']),
      limit: z.int(),
      remaining: z.int(),
      reset_at_ms: z.number(),
      retry_after_ms: z.number().optional(),
    })
    .optional()
    .catch(undefined),
});

export interface Report {
  /** Milliseconds of the request during which a model was generating. */
  readonly modelMs: number;
  /** The refusal of the call by the limiter, if it was refused. */
  readonly refusal?: RateDecision | undefined;
}

/** `rate` is the decision of the limiter. Only a refusal that would be repeated for the next call is reported. */
export function encodeReport(modelMs: number, rate: RateDecision | undefined): string {
  const isRefusal = rate?.outcome === 'rate_limited' || rate?.outcome === 'revoked';
  const report = {
    model_ms: modelMs,
    ...(isRefusal && {
      refusal: {
        outcome: rate.outcome,
        limit: rate.limit,
        remaining: rate.remaining,
        reset_at_ms: rate.resetAtMs,
        retry_after_ms: rate.retryAfterMs,
      },
    }),
  };
  return Buffer.from(JSON.stringify(report)).toString('base64url');
}

/** Throws for any text that `encodeReport` does not write. */
function decodeReport(header: string): Report {
  const { model_ms: modelMs, refusal } = ReportWire.parse(
    JSON.parse(Buffer.from(header, 'base64url').toString('utf8')),
  );
  if (refusal === undefined) return { modelMs };
  const { outcome, limit, remaining, reset_at_ms: resetAtMs, retry_after_ms: retryAfterMs } = refusal;
  return {
    modelMs,
    refusal: {
      outcome,
      degraded: false,
      limit,
      remaining,
      resetAtMs,
      ...(retryAfterMs !== undefined && { retryAfterMs }),
    },
  };
}

export interface ForwardedRequest extends ForwardedFacts {
  readonly body: Uint8Array;
  readonly signal: AbortSignal;
}

/**
 * Resolves when the headers of the response have arrived. Undefined: the companion is of a version without exchanges,
 * and has not run the request. Throws RpcError `unavailable`.
 */
export type OpenExchange = (
  request: ForwardedRequest,
) => Promise<{ readonly response: IncomingMessage; readonly report: Report } | undefined>;

export function createOpenExchange({ service, authorization }: CompanionAccess): OpenExchange {
  return async ({ body, signal, ...facts }) => {
    try {
      const headers = {
        ...traceHeaders(),
        Authorization: await authorization(signal),
        'Content-Type': 'application/json',
        [CALL_HEADER]: encodeFacts(facts),
      };
      const response = await service.post(EXCHANGE_PATH, headers, body, signal);
      const header = response.headers[REPORT_HEADER];
      if (typeof header === 'string') return { response, report: decodeReport(header) };
      response.on('error', () => {}).resume();
      if (response.statusCode === 404) return undefined;
      throw new Error(`the companion answered ${response.statusCode}`);
    } catch (error) {
      throw toUnreachable(error);
    }
  };
}
