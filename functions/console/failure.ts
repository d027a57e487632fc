// Everything that can go wrong with a call, as one class: the gateway's own errors keep their reason, the rest gets one
// of ours.
import * as z from 'zod/mini';

const WireError = z.object({
  code: z.number(),
  message: z.string(),
  data: z.optional(
    z.looseObject({
      reason: z.optional(z.string()),
      request_id: z.optional(z.string()),
      hint: z.optional(z.string()),
      retry_after_ms: z.optional(z.number()),
      issues: z.optional(z.array(z.object({ path: z.string(), message: z.string() }))),
    }),
  ),
});

export interface FailureFacts {
  /** `reason` of the gateway's error table, else `unreachable`, `connection_lost`, `unexpected` or `stopped`. */
  readonly reason: string;
  readonly message: string;
  readonly requestId?: string | undefined;
  /** The advice that the gateway sent. */
  readonly hint?: string | undefined;
  /** Of `error.data`, for what the reason alone leaves open. */
  readonly data?: Readonly<Record<string, unknown>>;
  readonly retryAfterMs?: number | undefined;
  readonly issues?: readonly { readonly path: string; readonly message: string }[] | undefined;
}

export class Failure extends Error {
  readonly facts: FailureFacts;
  constructor(facts: FailureFacts) {
    super(facts.message);
    this.facts = facts;
  }
  get reason(): string {
    return this.facts.reason;
  }
}

/** The `error` member of a response. */
export function fromWireError(error: unknown): Failure {
  const parsed = WireError.safeParse(error);
  if (!parsed.success) return unexpected();
  const { message, data = {} } = parsed.data;
  return new Failure({
    reason: data.reason ?? 'unexpected',
    message,
    requestId: data.request_id,
    hint: data.hint,
    data,
    retryAfterMs: data.retry_after_ms,
    issues: data.issues,
  });
}

export function unexpected(): Failure {
  return new Failure({ reason: 'unexpected', message: 'The answer is not one this console understands' });
}

export function connectionLost(): Failure {
  return new Failure({ reason: 'connection_lost', message: 'The connection was lost' });
}

/** A failed fetch, an abort or a defect. */
export function toFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  const name = error instanceof Error ? error.name : '';
  if (name === 'AbortError') return new Failure({ reason: 'stopped', message: 'Stopped' });
  if (name === 'TimeoutError')
    return new Failure({ reason: 'unreachable', message: 'The gateway did not answer in time' });
  if (error instanceof TypeError)
    return new Failure({ reason: 'unreachable', message: 'The gateway cannot be reached' });
  return unexpected();
}
