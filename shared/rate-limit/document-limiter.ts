// The limiter over any Store: one document per key, one optimistic transaction in flight per key and process, which all
// waiting requests join. This file owns the queues and applies the outage rule (outage.ts); count-batch.ts owns the
// transaction, windows.ts the arithmetic.
import type { Clock } from '../clock.ts';
import { RpcError } from '../errors.ts';
import { errorFields, type Logger } from '../log.ts';
import { NewerFormat } from '../store/define-document.ts';
import type { Store } from '../store/store.ts';
import { createCountBatch } from './count-batch.ts';
import { createEntries, type Entry, type Waiting } from './entries.ts';
import type { Limiter, RateDecision, TakeRequest } from './limiter.ts';
import { createOutage, unavailable } from './outage.ts';
import { EMPTY_STATE, refuse } from './windows.ts';

/**
 * A cached refusal is used this long before the document is read again, so that a reset by an operator takes effect
 * within a minute.
 */
const DENY_RECHECK_MS = 60_000;
/** The same for a cached revocation. Shorter, so that a withdrawn revocation takes effect within seconds. */
const REVOKED_RECHECK_MS = 5_000;
export interface DocumentLimiterOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log?: Logger;
  /** Keys cached at most; the least recently used idle one is evicted first (its next call costs a read). */
  readonly keysMax?: number;
  /** Calls that may wait on one key, and on all keys together; one more is answered `unavailable`. */
  readonly waitingPerKeyMax?: number;
  readonly waitingMax?: number;
  /** Milliseconds of optimistic retries before the transaction waits for the store's lock. */
  readonly optimisticMs?: number;
  /** Deadline of each store operation, milliseconds, and of the lock with its queue. */
  readonly timeoutMs?: number;
  readonly lockTimeoutMs?: number;
}

/**
 * Never over-admits on any number of instances: an admission is returned only after the commit that counted it. A
 * commit whose outcome is unknown admits no call. `take` rejects with the signal's reason when the signal aborts before
 * the decision, and with RangeError when `limits` is empty or `cost` is invalid; every other outcome is a RateDecision.
 */
export function createDocumentLimiter(options: DocumentLimiterOptions): Limiter {
  const { store, clock, log } = options;
  const { keysMax = 10_000, waitingPerKeyMax = 10_000, waitingMax = 20_000 } = options;
  const { optimisticMs = 400, timeoutMs = 2_000, lockTimeoutMs = 6_000 } = options;
  const entryOf = createEntries(keysMax);
  const outage = createOutage();
  const countBatch = createCountBatch({ store, clock, log, outage, optimisticMs, timeoutMs, lockTimeoutMs });
  let waitingCount = 0;

  function take(request: TakeRequest): Promise<RateDecision> {
    const entry = entryOf(request.keyId);
    const nowMs = clock.now();
    const atMs = clock.monotonic();
    try {
      const refusal = cachedRefusal(entry, request, nowMs, atMs);
      if (refusal !== undefined) return Promise.resolve(refusal);
    } catch (error) {
      return Promise.reject(error);
    }
    if (request.signal?.aborted) return Promise.reject(request.signal.reason);
    if (waitingCount >= waitingMax || entry.waiting.length >= waitingPerKeyMax) {
      return Promise.resolve(unavailable(request.limits, 1_000, nowMs));
    }
    if (!outage.mayTry(atMs)) return Promise.resolve(outage.decide(request, entry.bucket, { nowMs, atMs }));
    return new Promise((resolve, reject) => {
      entry.waiting.push({ request, resolve, reject });
      waitingCount++;
      schedule(entry);
    });
  }

  /**
   * setImmediate runs after the requests that this iteration of the event loop has parsed, so they all share one
   * commit.
   */
  function schedule(entry: Entry): void {
    if (entry.busy || entry.waiting.length === 0) return;
    entry.busy = true;
    setImmediate(() => void runBatch(entry));
  }

  async function runBatch(entry: Entry): Promise<void> {
    let batch = dequeue(entry);
    try {
      const decisions = batch.length === 0 ? [] : await countBatch(entry, batch);
      batch.forEach(({ request, resolve, reject }, index) => {
        const decision = decisions[index];
        if (decision === undefined) reject(request.signal?.reason);
        else resolve(decision);
      });
    } catch (error) {
      // Requests queued during the failed transaction fail with it: another attempt would make them wait for a second
      // deadline.
      batch = batch.concat(dequeue(entry));
      const failureOf = toDecision(error);
      for (const { request, resolve } of batch) resolve(failureOf(entry, request));
    }
    entry.busy = false;
    schedule(entry);
  }

  /**
   * The decision for the calls of a failed transaction. Only an unreachable store counts as an outage; a document that
   * cannot be read affects one key only.
   */
  function toDecision(error: unknown): (entry: Entry, request: TakeRequest) => RateDecision {
    const nowMs = clock.now();
    if (error instanceof RpcError && error.reason === 'unavailable' && !(error instanceof NewerFormat)) {
      const atMs = clock.monotonic();
      if (outage.failed(atMs)) log?.log('ERROR', 'rate limiter store unavailable', errorFields(error));
      return (entry, request) => outage.decide(request, entry.bucket, { nowMs, atMs });
    }
    log?.log('ERROR', 'rate limiter transaction failed', errorFields(error));
    return (_entry, request) => unavailable(request.limits, 1_000, nowMs);
  }

  function dequeue(entry: Entry): Waiting[] {
    const waiting = entry.waiting;
    entry.waiting = [];
    waitingCount -= waiting.length;
    return waiting;
  }

  return { take };
}

/** The deny cache: a refusal computed from the cached state costs no store operation, and ends when its window ends. */
function cachedRefusal(entry: Entry, request: TakeRequest, nowMs: number, atMs: number): RateDecision | undefined {
  const refusal = refuse(entry.state ?? EMPTY_STATE, request.limits, request.cost, nowMs);
  const trustedMs = entry.state?.revoked ? REVOKED_RECHECK_MS : DENY_RECHECK_MS;
  return atMs - entry.confirmedAtMs < trustedMs ? refusal : undefined;
}
