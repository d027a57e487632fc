// Optimistic transactions over any Store: read (or use cached snapshots), compute, commit under the versions that were
// read. After a Conflict, read again and retry after a short random pause; after 5 conflicts use the adapter's fair
// lock.
import { pause } from '../async.ts';
import { type CallOptions, Conflict, type Ref, type Snapshot, type Store, type Version, type Write } from './store.ts';

/**
 * Conflicts before the adapter's lock is used. With the lock, none of 20 contending processes starves (test/emulator).
 */
const ROUNDS_MAX = 5;
/** Upper bound of the uniform random pause before a retry. Firestore's own backoff (1 s x 1.5) starves processes. */
const JITTER_MS = 50;

export interface Decision<R> {
  /** A write to a document that was read gets its version as precondition; other writes keep their own. */
  readonly writes: readonly Write[];
  readonly result: R;
  /**
   * Writes to further documents, with preconditions of their own, that join the first commit. After a Conflict the
   * writes are repeated without them.
   */
  readonly riders?: readonly Write[] | undefined;
}

export interface Committed<R> {
  readonly result: R;
  /** The documents of `refs` after the commit. Passed as `cached` to the next call, they save its read. */
  readonly snapshots: readonly Snapshot[];
  /** The versions of the riders; undefined if they are not stored. */
  readonly riders?: readonly (Version | null)[] | undefined;
}

export interface TransactOptions extends CallOptions {
  /** Snapshots from an earlier commit or watch, one per ref in order; used instead of the first read. */
  readonly cached?: readonly Snapshot[] | undefined;
  /** Awaited between the first read and the first computation; never rejects. */
  readonly ready?: (() => Promise<void>) | undefined;
  /** Most milliseconds of optimistic rounds before the lock is used. Default: only the number of rounds counts. */
  readonly optimisticMs?: number;
  /** Most milliseconds of the lock, including the wait for it. Default: `timeoutMs`. */
  readonly lockTimeoutMs?: number;
  /** Optimistic rounds before the lock; default 5. */
  readonly roundsMax?: number;
  /** Most milliseconds of the pause after each conflict; default 50. */
  readonly jitterMs?: (round: number) => number;
  /** Clock and pauses of the rounds; default: those of the process. */
  readonly waits?: Waits;
}

export interface Waits {
  /** Milliseconds that never decrease. */
  monotonic(): number;
  pause(delayMs: number, signal?: AbortSignal): Promise<void>;
  /** 0 <= x < 1. */
  random(): number;
}

const systemWaits: Waits = { monotonic: () => performance.now(), pause, random: () => Math.random() };

/**
 * Runs `compute` on the documents of `refs` and commits its writes atomically. `compute` must be pure; it runs once per
 * round. Documents that are read but not written are not checked at the commit. If `compute` writes nothing based on
 * cached documents, it is called again with current ones, so that a stale cache cannot cause a refusal.
 */
export async function transact<R>(
  store: Store,
  refs: readonly Ref[],
  compute: (snapshots: readonly Snapshot[]) => Decision<R>,
  options: TransactOptions = {},
): Promise<Committed<R>> {
  const { waits = systemWaits, roundsMax = ROUNDS_MAX, jitterMs = () => JITTER_MS } = options;
  let snapshots = options.cached;
  let isFirstCommit = true;
  const lockAtMs = waits.monotonic() + (options.optimisticMs ?? Number.POSITIVE_INFINITY);
  for (let round = 0; round < roundsMax && waits.monotonic() < lockAtMs; round++) {
    const fresh = snapshots === undefined;
    snapshots ??= await store.get(refs, options);
    if (round === 0 && options.ready !== undefined) await options.ready();
    const decision = compute(snapshots);
    if (decision.writes.length === 0) {
      if (fresh) return { result: decision.result, snapshots };
      snapshots = undefined;
      continue;
    }
    const writes = decision.writes.map((write) => guarded(write, snapshots ?? []));
    const riders = isFirstCommit ? decision.riders : undefined;
    isFirstCommit = false;
    try {
      const versions = await store.commit(riders === undefined ? writes : [...writes, ...riders], options);
      const committed = { result: decision.result, snapshots: afterCommit(snapshots, writes, versions) };
      return riders === undefined ? committed : { ...committed, riders: versions.slice(writes.length) };
    } catch (error) {
      if (!(error instanceof Conflict)) throw error;
      snapshots = undefined;
      if (!options.cached || round > 0) await waits.pause(waits.random() * jitterMs(round), options.signal);
    }
  }
  const result = await store.lock(
    refs,
    (locked) => {
      const decision = compute(locked);
      return { writes: decision.writes, result: decision.result };
    },
    options.lockTimeoutMs === undefined ? options : { ...options, timeoutMs: options.lockTimeoutMs },
  );
  return { result, snapshots: await store.get(refs, options) };
}

function guarded(write: Write, snapshots: readonly Snapshot[]): Write {
  const read = snapshots.find((snapshot) => sameRef(snapshot.ref, write.ref));
  if (read === undefined) return write;
  if (read.version === null) return { ...write, if: 'absent' };
  const condition = { version: read.version };
  if ('delete' in write || read.data === undefined) return { ...write, if: condition };
  return { ...write, base: read.data, if: condition };
}

function afterCommit(
  snapshots: readonly Snapshot[],
  writes: readonly Write[],
  versions: readonly (Version | null)[],
): Snapshot[] {
  return snapshots.map((snapshot) => {
    const index = writes.findIndex((write) => sameRef(write.ref, snapshot.ref));
    const write = writes[index];
    if (write === undefined) return snapshot;
    return {
      ref: snapshot.ref,
      data: 'data' in write ? write.data : undefined,
      version: versions[index] ?? null,
    };
  });
}

function sameRef(a: Ref, b: Ref): boolean {
  return a.id === b.id && a.collection === b.collection;
}
