// Locking transactions: read under Firestore's lock, compute, commit. Transactions on the same documents run one after
// the other: within this process by a queue, across processes by a fair lock. Only optimistic commits, which hold no
// lock, can conflict with them.
import type { Bounds } from '../../async.ts';
import { pause } from '../../async.ts';
import { checkWrites, refKey, withoutImpliedPreconditions } from '../document.ts';
import { createQueue } from '../queue.ts';
import type { Ref, Snapshot, Write } from '../store.ts';
import type { FirestoreClient } from './client.ts';
import { prepareWrite, readDocuments, toWireWrite } from './documents.ts';
import { isAborted, toCommitError, toReadError } from './errors.ts';
import { acquireFairLock } from './fair-lock.ts';
import type { Transaction } from './wire.ts';

/** Longest pause before an aborted transaction is retried; short, because Firestore has already queued it. */
const JITTER_MS = 50;
const ROLLBACK_TIMEOUT_MS = 5_000;

export type Compute<R> = (snapshots: Snapshot[]) => { readonly writes: readonly Write[]; readonly result: R };

/** Runs until the transaction is committed, a precondition fails (Conflict) or the bounds' signal aborts. */
export type Lock = <R>(
  client: FirestoreClient,
  refs: readonly Ref[],
  compute: Compute<R>,
  bounds: Bounds,
) => Promise<R>;

export function createLock(nowMs: () => number): Lock {
  const queue = createQueue();
  return (client, refs, compute, bounds) =>
    queue.run(keyOf(refs), async () => {
      const leave = await acquireFairLock(client, keyOf(refs), nowMs, bounds);
      try {
        return await transaction(client, refs, compute, { bounds, nowMs });
      } finally {
        await leave();
      }
    });
}

function keyOf(refs: readonly Ref[]): string {
  return refs.map(refKey).sort().join(' ');
}

interface Terms {
  readonly bounds: Bounds;
  readonly nowMs: () => number;
}

async function transaction<R>(
  client: FirestoreClient,
  refs: readonly Ref[],
  compute: Compute<R>,
  terms: Terms,
): Promise<R> {
  for (let retryOf: Transaction | undefined; ; ) {
    terms.bounds.signal.throwIfAborted();
    const outcome = await attempt(client, refs, compute, terms, retryOf);
    if ('result' in outcome) return outcome.result;
    // With the id of the aborted transaction, Firestore gives the retry its age, and so priority over later ones.
    retryOf = outcome.aborted;
    await pause(Math.random() * JITTER_MS, terms.bounds.signal);
  }
}

async function attempt<R>(
  client: FirestoreClient,
  refs: readonly Ref[],
  compute: Compute<R>,
  { bounds, nowMs }: Terms,
  retryOf: Transaction | undefined,
): Promise<{ readonly result: R } | { readonly aborted: Transaction }> {
  const transaction = await client.begin(bounds, retryOf).catch((error: unknown) => {
    throw toReadError(error);
  });
  try {
    const { writes, result } = compute(await readDocuments(client, refs, nowMs, bounds, transaction));
    checkWrites(writes);
    const wire = withoutImpliedPreconditions(writes, refs).map((write) => toWireWrite(client, prepareWrite(write)));
    bounds.signal.throwIfAborted();
    await client.commit(wire, bounds, transaction);
    return { result };
  } catch (error) {
    // Without a rollback, the transaction would keep its locks until Firestore expires them.
    const aside = { signal: AbortSignal.timeout(ROLLBACK_TIMEOUT_MS), timeoutMs: ROLLBACK_TIMEOUT_MS };
    client.rollback(transaction, aside).catch(() => {});
    if (isAborted(error)) return { aborted: transaction };
    throw toCommitError(error, true);
  }
}
