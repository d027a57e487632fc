// The watchers of documents of the embedded store. Every delivery is asynchronous, so that a listener neither runs
// inside the commit that it reports nor receives changes out of order.
import { refKey } from './document.ts';
import type { Ref, Snapshot } from './store.ts';

type Listener = (snapshot: Snapshot) => void;

interface Watcher {
  readonly ref: Ref;
  readonly listener: Listener;
  readonly onError: ((error: unknown) => void) | undefined;
  /** The version delivered last; undefined before the first delivery. */
  version: string | null | undefined;
  active: boolean;
}

export interface Watchers {
  readonly size: number;
  /** Adds a watcher and returns the function that removes it. */
  add(ref: Ref, listener: Listener, onError: ((error: unknown) => void) | undefined): () => void;
  /** Delivers the snapshot that `read` returns to the watchers of `ref` that do not have this version yet. */
  notify(ref: Ref, read: () => Snapshot): void;
  /** The documents that have a watcher. */
  refs(): Ref[];
  clear(): void;
}

/** `onSize` gets the number of watchers whenever it changes. */
export function createWatchers(onSize: (size: number) => void): Watchers {
  const byRef = new Map<string, Set<Watcher>>();
  let size = 0;
  const remove = (watcher: Watcher): void => {
    if (!watcher.active) return;
    watcher.active = false;
    const key = refKey(watcher.ref);
    const peers = byRef.get(key);
    peers?.delete(watcher);
    if (peers?.size === 0) byRef.delete(key);
    onSize(--size);
  };
  return {
    get size() {
      return size;
    },
    add(ref, listener, onError) {
      const watcher: Watcher = { ref, listener, onError, version: undefined, active: true };
      const key = refKey(ref);
      const peers = byRef.get(key) ?? new Set();
      byRef.set(key, peers.add(watcher));
      onSize(++size);
      return () => remove(watcher);
    },
    notify(ref, read) {
      for (const watcher of byRef.get(refKey(ref)) ?? []) deliver(watcher, read);
    },
    refs: () => [...byRef.values()].flatMap((peers) => [...peers].slice(0, 1).map((watcher) => watcher.ref)),
    clear() {
      for (const peers of [...byRef.values()]) for (const watcher of [...peers]) remove(watcher);
    },
  };
}

function deliver(watcher: Watcher, read: () => Snapshot): void {
  let callback: () => void;
  try {
    const snapshot = read();
    if (snapshot.version === watcher.version) return;
    watcher.version = snapshot.version;
    callback = () => watcher.listener(snapshot);
  } catch (error) {
    callback = () => watcher.onError?.(error);
  }
  queueMicrotask(() => {
    if (watcher.active) callback();
  });
}
