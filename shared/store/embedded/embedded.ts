// The embedded Store on node:sqlite: one file (or memory), several processes at once if need be. This file owns
// waiting, deadlines, watchers and housekeeping; the SQL is embedded-documents.ts.

import { pause } from '../../async.ts';
import type { WallClock } from '../../clock.ts';
import { RpcError } from '../../errors.ts';
import { checkQuery, checkRef, checkWrites, withoutImpliedPreconditions } from '../document.ts';
import { createQueryWatchers } from '../query-watchers.ts';
import type { CallOptions, Query, Ref, Snapshot, Store, Write } from '../store.ts';
import { createWatchers } from '../watchers.ts';
import { createCommits } from './commits.ts';
import { createPresenceCheck, isBusy, openDatabase, toStoreError } from './database.ts';
import { createDocuments, prepareWrite } from './documents.ts';

const TIMEOUT_DEFAULT_MS = 10_000;
const BUSY_PAUSE_MS = 15;
/** Interval at which the file is checked for commits by other processes. */
const POLL_MS = 100;
/** Some expired documents are removed along with every so many commits: more than those commits can have added. */
const PURGE_EVERY_COMMITS = 64;
/**
 * Documents are removed for good only by a clock that has been steady for so long: what one that is wrong for a moment
 * takes for expired must be there when it is right again.
 */
const STEADY_MS = 600_000;
const STEP_MS_MAX = 60_000;

export interface EmbeddedStoreOptions {
  /** The database file (its directory is created, mode 0700), or `:memory:`. */
  readonly path: string;
  readonly clock: WallClock;
  /** Default: STEADY_MS. */
  readonly steadyMs?: number;
}

/** Opens the store; throws an Error naming the path when the file cannot be opened, created or understood. */
export function createEmbeddedStore({ path, clock, steadyMs = STEADY_MS }: EmbeddedStoreOptions): Store {
  const database = openDatabase(path);
  const checkPresence = createPresenceCheck(path);
  const documents = createDocuments(database, clock);
  const commits = createCommits(documents, (prepared) => afterCommit(prepared.map(({ write }) => write)));
  let commitsMade = 0;
  let steady = { wallMs: clock.now(), atMs: performance.now() };
  let closed = false;
  let poll: NodeJS.Timeout | undefined;
  let seenChanges: unknown;

  const watchers = createWatchers(pollWhileWatched);
  const queryWatchers = createQueryWatchers((query) => documents.query(query), pollWhileWatched);

  /** Other processes' commits are only seen by looking. */
  function pollWhileWatched(): void {
    if (path === ':memory:') return;
    if (watchers.size + queryWatchers.size === 0) {
      clearInterval(poll);
      poll = undefined;
    } else if (poll === undefined) {
      seenChanges = documents.foreignChanges();
      poll = setInterval(hearOthers, POLL_MS).unref();
    }
  }

  function hearOthers(): void {
    try {
      const now = documents.foreignChanges();
      if (now === seenChanges) return;
      seenChanges = now;
    } catch {
      // Locked or failing: the next tick reads again, and the calls that matter report the failure themselves.
      return;
    }
    for (const ref of watchers.refs()) watchers.notify(ref, () => documents.read(ref));
    queryWatchers.notify();
  }

  function afterCommit(writes: readonly Write[]): void {
    if (watchers.size > 0) for (const { ref } of writes) watchers.notify(ref, () => documents.read(ref));
    if (queryWatchers.size > 0) queryWatchers.notify(new Set(writes.map(({ ref }) => ref.collection)));
    if (++commitsMade % PURGE_EVERY_COMMITS === 0) purge();
  }

  function purge(): void {
    const now = { wallMs: clock.now(), atMs: performance.now() };
    const passedMs = now.atMs - steady.atMs;
    if (Math.abs(now.wallMs - steady.wallMs - passedMs) > STEP_MS_MAX) steady = now;
    if (now.atMs - steady.atMs < steadyMs) return;
    try {
      documents.purge();
    } catch {
      // Housekeeping may fail (locked, disk full); readers ignore expired documents anyway.
    }
  }

  function checkOpen(signal: AbortSignal | undefined): void {
    signal?.throwIfAborted();
    if (closed) throw new RpcError('unavailable', { cause: new Error('embedded store: closed') });
    checkPresence();
  }

  /** Runs `work`, waiting for other processes' locks until the deadline without blocking the event loop. */
  async function attempt<R>({ signal, timeoutMs = TIMEOUT_DEFAULT_MS }: CallOptions, work: () => R): Promise<R> {
    const start = performance.now();
    for (;;) {
      checkOpen(signal);
      try {
        return work();
      } catch (error) {
        if (!isBusy(error) || performance.now() - start >= timeoutMs) throw toStoreError(error);
      }
      await pause(Math.random() * BUSY_PAUSE_MS, signal);
    }
  }

  return {
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
      const stop = watchers.add(ref, listener, onError);
      watchers.notify(ref, () => documents.read(ref));
      return stop;
    },

    watchQuery(query, listener, onError) {
      checkQuery(query);
      return queryWatchers.add(query, listener, onError);
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
      watchers.clear();
      queryWatchers.clear();
      database.close();
    },
  };
}
