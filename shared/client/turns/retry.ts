// Decides whether a call is retried, and after which delay. A call that may have run is repeated only if a second run
// has no effect.
import { METHODS } from '../../protocol.ts';
import { GatewayError } from '../gateway-error.ts';
import { sleep, type Timer } from '../transport/timer.ts';

/** Idempotent methods: they only read, or the gateway recognises a repetition (a prompt by its idempotency key). */
const REPEATABLE: ReadonlySet<string> = new Set([
  METHODS.limits,
  METHODS.ticket,
  METHODS.cancel,
  METHODS.delete,
  METHODS.history,
  METHODS.list,
  METHODS.prompt,
  METHODS.resume,
  METHODS.status,
  METHODS.update,
  METHODS.ownerErase,
  METHODS.ownerExport,
  METHODS.deployments,
  METHODS.events,
  METHODS.subscribe,
  METHODS.unsubscribe,
  METHODS.terminalResize,
  METHODS.mcpList,
  METHODS.models,
  METHODS.discover,
]);

/** A caller that prompts a busy session with `on_busy: 'reject'` receives the refusal without a retry. */
const FOR_THE_CALLER: ReadonlySet<string> = new Set(['session_busy', 'queue_full']);

const BACKOFF_MS = 250;
const BACKOFF_MS_MAX = 8_000;
const SPREAD_MS = 250;

export function isRepeatable(method: string): boolean {
  return REPEATABLE.has(method);
}

/**
 * A rate limit is refused before anything runs; after any other failure, something that is not repeatable may have run.
 */
export function mayRetry(error: unknown, repeatable: boolean): error is GatewayError {
  if (!(error instanceof GatewayError) || !error.retryable || error.reason === 'timeout') return false;
  return !FOR_THE_CALLER.has(error.reason) && (repeatable || (error.reason === 'rate_limited' && error.code === 429));
}

/**
 * Milliseconds before the next attempt: at least those that the gateway sent, else exponential with full jitter.
 * `attempt` counts from 0.
 */
export function retryDelayMs({ retryAfterMs }: GatewayError, attempt: number): number {
  if (retryAfterMs !== undefined) return retryAfterMs + Math.random() * SPREAD_MS;
  return Math.random() * Math.min(BACKOFF_MS_MAX, BACKOFF_MS * 2 ** attempt);
}

/** Waits for the next attempt; throws `error` itself when the deadline comes first. */
export async function waitToRetry(
  error: GatewayError,
  attempt: number,
  deadline: Pick<Timer, 'signal' | 'leftMs'>,
): Promise<void> {
  const delayMs = retryDelayMs(error, attempt);
  if (delayMs >= deadline.leftMs()) throw error;
  await sleep(delayMs, deadline.signal);
}

/** Repeats `send` at most `retries` times. */
export async function withRetries<T>(
  send: () => Promise<T>,
  {
    retries,
    repeatable,
    deadline,
  }: { readonly retries: number; readonly repeatable: boolean; readonly deadline: Pick<Timer, 'signal' | 'leftMs'> },
): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await send();
    } catch (error) {
      if (attempt >= retries || !mayRetry(error, repeatable)) throw error;
      await waitToRetry(error, attempt, deadline);
    }
  }
}
