// The transaction of the limiter: counts the calls that wait on one key in one commit, and keeps the document that it
// read or wrote for the next one.
import type { Clock } from '../clock.ts';
import type { Logger } from '../log.ts';
import type { Snapshot, Store } from '../store/store.ts';
import { type Decision, transact } from '../store/transact.ts';
import type { Entry, Waiting } from './entries.ts';
import { toLimitState, toLimitWrite } from './limit-document.ts';
import type { RateDecision } from './limiter.ts';
import type { Outage } from './outage.ts';
import { isProbablyCurrent, observe } from './traffic.ts';
import { charge, EMPTY_STATE } from './windows.ts';

/** Deadline of a probe during an outage, shorter than that of an ordinary call. */
const PROBE_TIMEOUT_MS = 1_000;

export interface CountBatchDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger | undefined;
  readonly outage: Outage;
  readonly optimisticMs: number;
  readonly timeoutMs: number;
  readonly lockTimeoutMs: number;
}

/** Returns the decision of each call; undefined for one whose signal has aborted. Throws what the store throws. */
export type CountBatch = (entry: Entry, batch: readonly Waiting[]) => Promise<readonly (RateDecision | undefined)[]>;

export function createCountBatch(deps: CountBatchDeps): CountBatch {
  const { store, clock, log, outage, optimisticMs, timeoutMs, lockTimeoutMs } = deps;
  return async (entry, batch) => {
    const startMs = clock.monotonic();
    const known = entry.snapshot;
    const trusted = known !== undefined && isProbablyCurrent(entry.traffic, startMs - entry.confirmedAtMs);
    let found = EMPTY_STATE;
    const compute = (snapshots: readonly Snapshot[]): Decision<(RateDecision | undefined)[]> => {
      found = toLimitState(snapshots[0]);
      let state = found;
      const nowMs = clock.now();
      const result = batch.map(({ request }) => {
        if (request.signal?.aborted) return undefined;
        const charged = charge(state, request.limits, request.cost, nowMs);
        state = charged.state;
        return charged.decision;
      });
      return { writes: state === found ? [] : [toLimitWrite(entry.ref, state)], result };
    };
    const committed = await transact(store, [entry.ref], compute, {
      cached: trusted ? [known] : undefined,
      optimisticMs,
      lockTimeoutMs,
      timeoutMs: outage.open ? PROBE_TIMEOUT_MS : timeoutMs,
    });
    const doneMs = clock.monotonic();
    observe(entry.traffic, entry.state, entry.confirmedAtMs, found, doneMs);
    entry.snapshot = committed.snapshots[0];
    entry.state = toLimitState(entry.snapshot);
    entry.confirmedAtMs = doneMs;
    const lastedMs = outage.succeeded(doneMs);
    if (lastedMs !== undefined) log?.log('NOTICE', 'rate limiter store is back', { outage_ms: lastedMs });
    return committed.result;
  };
}
