// Who watches which query of the embedded store. The same order and asynchrony as watchers.ts, which is about single
// documents.
import type { Query, Snapshot } from './store.ts';

type Listener = (snapshots: Snapshot<never>[]) => void;

interface QueryWatcher {
  readonly query: Query;
  readonly listener: Listener;
  readonly onError: ((error: unknown) => void) | undefined;
  /** Ids and versions handed over last; undefined before the first. */
  told: string | undefined;
  active: boolean;
}

export interface QueryWatchers {
  readonly size: number;
  /** Adds a watcher, tells it the present result, and returns the function that removes it. */
  add(query: Query, listener: Listener, onError: ((error: unknown) => void) | undefined): () => void;
  /**
   * Tells everybody whose query has another result now; `collections`: where something may have changed, undefined for
   * anywhere.
   */
  notify(collections?: ReadonlySet<string>): void;
  clear(): void;
}

/** `read` answers a query now; `onSize` hears of the number of watchers whenever it changes. */
export function createQueryWatchers(
  read: (query: Query) => Snapshot<never>[],
  onSize: (size: number) => void,
): QueryWatchers {
  const watchers = new Set<QueryWatcher>();
  const remove = (watcher: QueryWatcher): void => {
    watcher.active = false;
    if (watchers.delete(watcher)) onSize(watchers.size);
  };
  const deliver = (watcher: QueryWatcher): void => {
    let tell: () => void;
    try {
      const snapshots = read(watcher.query);
      const told = snapshots.map(({ ref, version }) => `${ref.id} ${version}`).join('\n');
      if (told === watcher.told) return;
      watcher.told = told;
      tell = () => watcher.listener(snapshots);
    } catch (error) {
      tell = () => watcher.onError?.(error);
    }
    queueMicrotask(() => {
      if (watcher.active) tell();
    });
  };
  return {
    get size() {
      return watchers.size;
    },
    add(query, listener, onError) {
      const watcher: QueryWatcher = { query, listener, onError, told: undefined, active: true };
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
