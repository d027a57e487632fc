// Notifies the watchers of documents and queries of the embedded store about commits, including those of other
// processes on the same file.

import { createQueryWatchers } from '../query-watchers.ts';
import type { Ref, Store, Write } from '../store.ts';
import { createWatchers } from '../watchers.ts';
import type { Documents } from './documents.ts';

/** Interval at which the file is checked for commits by other processes. */
const POLL_MS = 100;

export interface Changes extends Pick<Store, 'watch' | 'watchQuery'> {
  /** Call after a commit of this process. */
  committed(writes: readonly Write[]): void;
  clear(): void;
}

/** `isShared`: other processes may open the same database. */
export function createChanges(documents: Documents, isShared: boolean): Changes {
  const watchers = createWatchers(pollWhileWatched);
  const queryWatchers = createQueryWatchers((query) => documents.query(query), pollWhileWatched);
  let poll: NodeJS.Timeout | undefined;
  let seen: unknown;

  return {
    watch(ref, listener, onError) {
      const stop = watchers.add(ref, listener, onError);
      notify(ref);
      return stop;
    },
    watchQuery: queryWatchers.add,
    committed(writes) {
      if (watchers.size > 0) for (const { ref } of writes) notify(ref);
      if (queryWatchers.size > 0) queryWatchers.notify(new Set(writes.map(({ ref }) => ref.collection)));
    },
    clear() {
      watchers.clear();
      queryWatchers.clear();
    },
  };

  function notify(ref: Ref): void {
    watchers.notify(ref, () => documents.read(ref));
  }

  /** Polls, because SQLite does not notify about commits of other processes. */
  function pollWhileWatched(): void {
    if (!isShared) return;
    if (watchers.size + queryWatchers.size === 0) {
      clearInterval(poll);
      poll = undefined;
    } else if (poll === undefined) {
      seen = documents.foreignChanges();
      poll = setInterval(notifyForeignChanges, POLL_MS).unref();
    }
  }

  function notifyForeignChanges(): void {
    try {
      const now = documents.foreignChanges();
      if (now === seen) return;
      seen = now;
    } catch {
      // Locked or failing: the next tick reads again, and reads and commits report the failure.
      return;
    }
    for (const ref of watchers.refs()) notify(ref);
    queryWatchers.notify();
  }
}
