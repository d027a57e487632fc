// The embedded Store on node:sqlite: one file (or memory), which several processes can share. documents.ts has the SQL,
// attempt.ts waits for locks, commits.ts groups commits, changes.ts notifies watchers, purge.ts deletes expired
// documents.

import type { WallClock } from '../../clock.ts';
import { RpcError } from '../../errors.ts';
import { checkQuery, checkRef, checkWrites, withoutImpliedPreconditions } from '../document.ts';
import type { CallOptions, Query, Ref, Snapshot, Store, Write } from '../store.ts';
import { createAttempt } from './attempt.ts';
import { createChanges } from './changes.ts';
import { createCommits } from './commits.ts';
import { createPresenceCheck, openDatabase } from './database.ts';
import { createDocuments } from './documents.ts';
import { createPurge } from './purge.ts';
import { prepareWrite } from './writes.ts';

/** The clock must have been steady for this long before expired documents are deleted. */
const STEADY_MS = 600_000;

export interface EmbeddedStoreOptions {
  /** The database file (its directory is created, mode 0700), or `:memory:`. */
  readonly path: string;
  readonly clock: WallClock;
  /** Default: STEADY_MS. */
  readonly steadyMs?: number;
}

/**
 * Opens the store; throws an Error with the path when the file cannot be opened or created, or has another schema
 * version.
 */
export function createEmbeddedStore({ path, clock, steadyMs = STEADY_MS }: EmbeddedStoreOptions): Store {
  const database = openDatabase(path);
  const checkPresence = createPresenceCheck(path);
  const documents = createDocuments(database, clock);
  const commits = createCommits(documents, (prepared) => afterCommit(prepared.map(({ write }) => write)));
  const changes = createChanges(documents, path !== ':memory:');
  const purge = createPurge(documents, clock, steadyMs);
  let closed = false;

  function afterCommit(writes: readonly Write[]): void {
    changes.committed(writes);
    purge();
  }

  function checkOpen(signal: AbortSignal | undefined): void {
    signal?.throwIfAborted();
    if (closed) throw new RpcError('unavailable', { cause: new Error('embedded store: closed') });
    checkPresence();
  }

  const attempt = createAttempt(checkOpen);

  return {
    isRemote: false,
    async get(refs: readonly Ref[], options: CallOptions = {}): Promise<Snapshot[]> {
      for (const ref of refs) checkRef(ref);
      const work = () => refs.map((ref) => documents.read(ref));
      return attempt(options, refs.length > 1 ? () => documents.transaction('DEFERRED', work) : work);
    },

    async commit(writes, options = {}) {
      checkWrites(writes);
      checkOpen(options.signal);
      return commits.commit(writes.map(prepareWrite), options);
    },

    async query(query: Query, options: CallOptions = {}): Promise<Snapshot[]> {
      checkQuery(query);
      return attempt(options, () => documents.query(query));
    },

    watch(ref, listener, onError) {
      checkRef(ref);
      return changes.watch(ref, listener, onError);
    },

    watchQuery(query, listener, onError) {
      checkQuery(query);
      return changes.watchQuery(query, listener, onError);
    },

    async lock(refs, compute, options = {}) {
      for (const ref of refs) checkRef(ref);
      return attempt(options, () => {
        const { writes, result } = documents.transaction('IMMEDIATE', () => {
          const decision = compute(refs.map((ref) => documents.read(ref)));
          checkWrites(decision.writes);
          const writes = withoutImpliedPreconditions(decision.writes, refs);
          for (const write of writes) documents.apply(prepareWrite(write));
          return { writes, result: decision.result };
        });
        afterCommit(writes);
        return result;
      });
    },

    async ping(options = {}) {
      checkPresence('now');
      await attempt(options, documents.foreignChanges);
    },

    async close() {
      if (closed) return;
      commits.close();
      closed = true;
      changes.clear();
      database.close();
    },
  };
}
