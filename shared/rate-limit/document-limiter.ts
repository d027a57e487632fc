// The limiter over any Store: one document per key, one optimistic transaction in flight per key and process, which everybody waiting
// joins. It owns the queues, what is remembered between commits and the outage rule; windows.ts owns the arithmetic.
import type { Clock } from '../clock.ts';
import { RpcError } from '../errors.ts';
import { errorFields, type Logger } from '../log.ts';
import type { Ref, Snapshot, Store } from '../store/store.ts';
import { type Decision, transact } from '../store/transact.ts';
import { toLimitRef, toLimitState, toLimitWrite } from './limit-document.ts';
import type { Limiter, RateDecision, TakeRequest } from './limiter.ts';
import { type Bucket, createOutage, unavailable } from './outage.ts';
import { charge, EMPTY_STATE, type LimitState, refuse } from './windows.ts';

/** A remembered refusal is trusted this long before the document is read again: a reset by an operator shows within a minute. */
const DENY_RECHECK_MS = 60_000;
/** A remembered revocation likewise; shorter, since taking one back should be felt soon. */
const REVOKED_RECHECK_MS = 5_000;
/** Reads in a row that find our own last commit before the cached version is trusted again after a conflict. */
const QUIET_READS = 2;
/** A probe of a store that was down gives up sooner than an ordinary call. */
const PROBE_TIMEOUT_MS = 1_000;

export interface DocumentLimiterOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log?: Logger;
  /** Keys remembered; the least recently used idle one is forgotten first (it costs a read when it comes back). */
  readonly keysMax?: number;
  /** Calls that may wait on one key, and on all keys together; one more is answered `unavailable`. */
  readonly waitingPerKeyMax?: number;
  readonly waitingMax?: number;
  /** Milliseconds of optimistic rounds before the store's lock is taken. */
  readonly optimisticMs?: number;
  /** Deadline of each store operation, milliseconds. */
  readonly timeoutMs?: number;
}

/** A call between `take` and its decision. */
interface Waiting {
  readonly request: TakeRequest;
  readonly resolve: (decision: RateDecision) => void;
  readonly reject: (reason: unknown) => void;
}

/** What is remembered of one key between calls. */
interface Entry {
  readonly ref: Ref;
  /** The document after our last transaction, and its content; a lower bound of what is used. */
  snapshot: Snapshot | undefined;
  state: LimitState | undefined;
  /** When that state was last known to be the stored one, epoch milliseconds. */
  confirmedAtMs: number;
  /** Reads still to find nobody else's commit before `snapshot` is worth a commit without reading: 0 = trusted. */
  distrust: number;
  waiting: Waiting[];
  /** A transaction is scheduled or running. */
  busy: boolean;
  readonly bucket: Bucket;
}

/**
 * Never over-admits on any number of instances: an admission is released only after the commit that counted it. A commit whose outcome is
 * unknown admits nobody. `take` rejects with the signal's reason when the caller left before its call was decided, with RangeError when
 * the request itself makes no sense; every other outcome is a RateDecision.
 */
export function createDocumentLimiter(options: DocumentLimiterOptions): Limiter {
  const { store, clock, log } = options;
  const { keysMax = 10_000, waitingPerKeyMax = 10_000, waitingMax = 20_000 } = options;
  const { optimisticMs = 400, timeoutMs = 2_000 } = options;
  const entries = new Map<string, Entry>();
  const outage = createOutage();
  let waitingCount = 0;

  function take(request: TakeRequest): Promise<RateDecision> {
    const entry = entryOf(request.keyId);
    const nowMs = clock.now();
    try {
      const refusal = remembered(entry, request, nowMs);
      if (refusal !== undefined) return Promise.resolve(refusal);
    } catch (error) {
      return Promise.reject(error);
    }
    if (request.signal?.aborted) return Promise.reject(request.signal.reason);
    if (waitingCount >= waitingMax || entry.waiting.length >= waitingPerKeyMax) {
      return Promise.resolve(unavailable(request.limits, 1_000, nowMs));
    }
    if (!outage.mayTry(nowMs)) return Promise.resolve(outage.decide(request, entry.bucket, nowMs));
    return new Promise((resolve, reject) => {
      entry.waiting.push({ request, resolve, reject });
      waitingCount++;
      schedule(entry);
    });
  }

  /** Immediates run right after the requests of this turn of the event loop were parsed, so all of those share one commit. */
  function schedule(entry: Entry): void {
    if (entry.busy || entry.waiting.length === 0) return;
    entry.busy = true;
    setImmediate(() => void fly(entry));
  }

  async function fly(entry: Entry): Promise<void> {
    let joined = dequeue(entry);
    try {
      const decisions = joined.length === 0 ? [] : await decide(entry, joined);
      joined.forEach(({ request, resolve, reject }, index) => {
        const decision = decisions[index];
        if (decision === undefined) reject(request.signal?.reason);
        else resolve(decision);
      });
    } catch (error) {
      // Those who came meanwhile have waited long enough: the store would keep them as long again.
      joined = joined.concat(dequeue(entry));
      const answer = failure(error);
      for (const { request, resolve } of joined) resolve(answer(entry, request));
    }
    entry.busy = false;
    schedule(entry);
  }

  /** What calls are told after a failed transaction. Only an unreachable store is an outage; a document nobody can read is one key's trouble. */
  function failure(error: unknown): (entry: Entry, request: TakeRequest) => RateDecision {
    const nowMs = clock.now();
    if (error instanceof RpcError && error.reason === 'unavailable') {
      if (outage.failed(nowMs)) log?.log('ERROR', 'rate limiter store unavailable', errorFields(error));
      return (entry, request) => outage.decide(request, entry.bucket, nowMs);
    }
    log?.log('ERROR', 'rate limiter transaction failed', errorFields(error));
    return (_entry, request) => unavailable(request.limits, 1_000, nowMs);
  }

  /** One transaction for all that joined; an undefined decision belongs to a caller that left before it was made. */
  async function decide(entry: Entry, joined: readonly Waiting[]): Promise<readonly (RateDecision | undefined)[]> {
    const known = entry.snapshot;
    const cached = known !== undefined && entry.distrust === 0 ? [known] : undefined;
    let foreign = false;
    const compute = (snapshots: readonly Snapshot[]): Decision<(RateDecision | undefined)[]> => {
      const read = snapshots[0];
      foreign ||= known !== undefined && read?.version !== known.version;
      const nowMs = clock.now();
      const before = toLimitState(read?.data);
      let state = before;
      const result = joined.map(({ request }) => {
        if (request.signal?.aborted) return undefined;
        const charged = charge(state, request.limits, request.cost, nowMs);
        state = charged.state;
        return charged.decision;
      });
      return { writes: state === before ? [] : [toLimitWrite(entry.ref, state)], result };
    };
    const committed = await transact(store, [entry.ref], compute, {
      cached,
      optimisticMs,
      timeoutMs: outage.open ? PROBE_TIMEOUT_MS : timeoutMs,
    });
    entry.snapshot = committed.snapshots[0];
    entry.state = toLimitState(entry.snapshot?.data);
    entry.confirmedAtMs = clock.now();
    entry.distrust = foreign ? QUIET_READS : Math.max(0, entry.distrust - 1);
    const lastedMs = outage.succeeded(entry.confirmedAtMs);
    if (lastedMs !== undefined) log?.log('NOTICE', 'rate limiter store is back', { outage_ms: lastedMs });
    return committed.result;
  }

  function dequeue(entry: Entry): Waiting[] {
    const waiting = entry.waiting;
    entry.waiting = [];
    waitingCount -= waiting.length;
    return waiting;
  }

  function entryOf(keyId: string): Entry {
    let entry = entries.get(keyId);
    if (entry !== undefined) entries.delete(keyId);
    else {
      if (entries.size >= keysMax) forgetIdle(entries);
      entry = {
        ref: toLimitRef(keyId),
        snapshot: undefined,
        state: undefined,
        confirmedAtMs: 0,
        distrust: 0,
        waiting: [],
        busy: false,
        bucket: { startMs: 0, used: 0 },
      };
    }
    entries.set(keyId, entry);
    return entry;
  }

  return { take };
}

/** The deny cache: a refusal that follows from the remembered state costs no operation, and ends by itself when the window does. */
function remembered(entry: Entry, request: TakeRequest, nowMs: number): RateDecision | undefined {
  const refusal = refuse(entry.state ?? EMPTY_STATE, request.limits, request.cost, nowMs);
  const trustedMs = entry.state?.revoked ? REVOKED_RECHECK_MS : DENY_RECHECK_MS;
  return nowMs - entry.confirmedAtMs < trustedMs ? refusal : undefined;
}

/** Drops the least recently used key that nobody waits on. Busy ones are at most as many as calls may wait, so the map stays bounded. */
function forgetIdle(entries: Map<string, Entry>): void {
  for (const [keyId, entry] of entries) {
    if (entry.busy) continue;
    entries.delete(keyId);
    return;
  }
}
