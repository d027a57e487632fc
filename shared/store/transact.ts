// Optimistic transactions over any Store, the one place with a retry rule: read (or take what is cached), compute,
// commit under the versions read; on Conflict reread and retry with short jitter; after 5 lost rounds the adapter's
// fair lock takes over.
import { pause } from '../async.ts';
import { type CallOptions, Conflict, type Ref, type Snapshot, type Store, type Version, type Write } from './store.ts';

/**
 * Rounds lost before the adapter's lock is used; with it none of 20 contending processes starves
 * (test/emulator).
 */
const ROUNDS_MAX = 5;
/**
 * Upper bound of the uniform pause before a retry. Firestore's own backoff (1 s x 1.5) starves whole processes (facts:
 * 3.1 s).
 */
const JITTER_MS = 50;

export interface Decision<R> {
  /**
   * A write to a document that was read carries its version as precondition; other writes keep the precondition they
   * bring.
   */
  readonly writes: readonly Write[];
  readonly result: R;
}

export interface Committed<R> {
  readonly result: R;
  /** The documents of `refs` as they are after the commit: pass them as `cached` next time and the read is saved. */
  readonly snapshots: readonly Snapshot[];
}

export interface TransactOptions extends CallOptions {
  /** Snapshots from an earlier commit or watch, one per ref in order; used instead of the first read. */
  readonly cached?: readonly Snapshot[] | undefined;
  /**
   * Milliseconds of optimistic rounds before the lock is used, if that comes before the last round. Default: rounds
   * alone count.
   */
  readonly optimisticMs?: number;
  /** Milliseconds the lock may take, waiting for its turn included. Default: `timeoutMs`. */
  readonly lockTimeoutMs?: number;
}

/**
 * Runs `compute` on the documents behind `refs` and commits what it returns, all or nothing. `compute` must be pure; it
 * runs once per round. Documents that are read but not written are not guarded. When `compute` writes nothing, and
 * decided on cached documents, it is called again with fresh ones, so that a stale cache can never refuse.
 */
export async function transact<R>(
  store: Store,
  refs: readonly Ref[],
  compute: (snapshots: readonly Snapshot[]) => Decision<R>,
  options: TransactOptions = {},
): Promise<Committed<R>> {
  let snapshots = options.cached;
  const lockAtMs = performance.now() + (options.optimisticMs ?? Number.POSITIVE_INFINITY);
  for (let round = 0; round < ROUNDS_MAX && performance.now() < lockAtMs; round++) {
    const fresh = snapshots === undefined;
    snapshots ??= await store.get(refs, options);
    const decision = compute(snapshots);
    if (decision.writes.length === 0) {
      if (fresh) return { result: decision.result, snapshots };
      snapshots = undefined;
      continue;
    }
    const writes = decision.writes.map((write) => guarded(write, snapshots ?? []));
    try {
      const versions = await store.commit(writes, options);
      return { result: decision.result, snapshots: afterCommit(snapshots, writes, versions) };
    } catch (error) {
      if (!(error instanceof Conflict)) throw error;
      snapshots = undefined;
      if (!options.cached || round > 0) await pause(Math.random() * JITTER_MS, options.signal);
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
  return { ...write, if: read.version === null ? 'absent' : { version: read.version } };
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
