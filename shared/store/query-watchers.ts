// The watchers of queries of the embedded store. Deliveries are ordered and asynchronous as in watchers.ts, which is
// for single documents.
import type { Query, Snapshot } from './store.ts';

type Listener = (snapshots: Snapshot[]) => void;

interface QueryWatcher {
  readonly query: Query;
  readonly listener: Listener;
  readonly onError: ((error: unknown) => void) | undefined;
  /** Ids and versions delivered last; undefined before the first delivery. */
  delivered: string | undefined;
  active: boolean;
}

export interface QueryWatchers {
  readonly size: number;
  /** Adds a watcher, delivers the present result to it, and returns the function that removes it. */
  add(query: Query, listener: Listener, onError: ((error: unknown) => void) | undefined): () => void;
  /**
   * Notifies watchers whose query result has changed; `collections`: where something may have changed, undefined for
   * anywhere.
   */
  notify(collections?: ReadonlySet<string>): void;
  clear(): void;
}

/** `read` runs a query; `onSize` is called with the number of watchers whenever it changes. */
export function createQueryWatchers(read: (query: Query) => Snapshot[], onSize: (size: number) => void): QueryWatchers {
  const watchers = new Set<QueryWatcher>();
  const remove = (watcher: QueryWatcher): void => {
    watcher.active = false;
    if (watchers.delete(watcher)) onSize(watchers.size);
  };
  const deliver = (watcher: QueryWatcher): void => {
    let callback: () => void;
    try {
      const snapshots = read(watcher.query);
      const delivered = snapshots.map(({ ref, version }) => `${ref.id} ${version}`).join('\n');
      if (delivered === watcher.delivered) return;
      watcher.delivered = delivered;
      callback = () => watcher.listener(snapshots);
    } catch (error) {
      callback = () => watcher.onError?.(error);
    }
    queueMicrotask(() => {
      if (watcher.active) callback();
    });
  };
  return {
    get size() {
      return watchers.size;
    },
    add(query, listener, onError) {
      const watcher: QueryWatcher = { query, listener, onError, delivered: undefined, active: true };
      watchers.add(watcher);
      onSize(watchers.size);
      deliver(watcher);
      return () => remove(watcher);
    },
    notify(collections) {
      for (const watcher of watchers) {
        if (collections === undefined || collections.has(watcher.query.collection)) deliver(watcher);
      }
    },
    clear() {
      for (const watcher of [...watchers]) remove(watcher);
    },
  };
}
