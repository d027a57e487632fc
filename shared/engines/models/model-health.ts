// Counts the failures of models on this instance. Prompts that have a fallback pass over a model that fails repeatedly,
// for a limited time, so that they do not wait for another failure. The clock is monotonic.
import type { Clock } from '../../clock.ts';

/** A model is passed over after this many failures within WINDOW_MS, without a success between them. */
const FAILURES = 5;
const WINDOW_MS = 30_000;
const PASSED_OVER_MS = 30_000;
/** Above this number, the model that failed longest ago is removed. */
const MODELS_MAX = 256;

/** How a call ended. `unknown`: not because of the model, as the turn was cancelled or its request was invalid. */
export type CallEnd = 'completed' | 'failed' | 'unknown';

/** One call of a model, with all its retries. */
export interface ModelCall {
  /** The answer has begun: the model is not passed over any more. */
  begun(): void;
  /** Must be called once. */
  ended(how: CallEnd): void;
}

export interface PassedOver {
  readonly model: string;
  /** Time until one prompt calls the model again; 0 while it does. */
  readonly retry_in_ms: number;
}

export interface ModelHealth {
  /**
   * Begins a call; undefined if the model is passed over. Once the time is over, one call at a time goes through until
   * one succeeds. A model without a fallback is always called.
   */
  begin(model: string, options: { readonly hasFallback: boolean }): ModelCall | undefined;
  /** The models that are passed over now. */
  passedOver(): PassedOver[];
}

interface Failing {
  /** Times of the last failures, oldest first. */
  failedAtMs: readonly number[];
  /** Undefined: the model is called. */
  retryAtMs: number | undefined;
  isProbed: boolean;
}

export function createModelHealth(clock: Pick<Clock, 'monotonic'>): ModelHealth {
  const models = new Map<string, Failing>();

  function addFailure(model: string): void {
    const nowMs = clock.monotonic();
    const failing = models.get(model) ?? { failedAtMs: [], retryAtMs: undefined, isProbed: false };
    const failedAtMs = [...failing.failedAtMs, nowMs].slice(-FAILURES);
    const isFailing = failedAtMs.length === FAILURES && nowMs - (failedAtMs[0] ?? nowMs) <= WINDOW_MS;
    if (isFailing || failing.retryAtMs !== undefined) failing.retryAtMs = nowMs + PASSED_OVER_MS;
    failing.failedAtMs = failedAtMs;
    models.delete(model);
    models.set(model, failing);
    const [oldest] = models.keys();
    if (models.size > MODELS_MAX && oldest !== undefined) models.delete(oldest);
  }

  return {
    begin(model, { hasFallback }) {
      const found = models.get(model);
      const isProbe = found !== undefined && isDue(found, clock.monotonic());
      if (hasFallback && found?.retryAtMs !== undefined && !isProbe) return undefined;
      if (isProbe) found.isProbed = true;
      const release = (): void => {
        if (isProbe) found.isProbed = false;
      };
      return {
        begun() {
          release();
          const current = models.get(model);
          if (current !== undefined) current.retryAtMs = undefined;
        },
        ended(how) {
          release();
          if (how === 'completed') models.delete(model);
          if (how === 'failed') addFailure(model);
        },
      };
    },
    passedOver() {
      const nowMs = clock.monotonic();
      return [...models].flatMap(([model, failing]) =>
        failing.retryAtMs === undefined || isDue(failing, nowMs)
          ? []
          : [{ model, retry_in_ms: Math.max(0, Math.ceil(failing.retryAtMs - nowMs)) }],
      );
    },
  };
}

/** Whether the next call is a probe. */
function isDue({ retryAtMs, isProbed }: Failing, nowMs: number): boolean {
  return retryAtMs !== undefined && !isProbed && nowMs >= retryAtMs;
}
