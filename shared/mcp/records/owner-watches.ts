// Watches the list of a key's connections while one of them is open on this instance, so that this instance closes a
// connection that another instance has removed.
import type { Store } from '../../store/store.ts';
import { ownerRef } from './connection-list.ts';
import { McpOwners } from './documents.ts';

export interface OwnerWatches {
  set(owner: string, isWatched: boolean): void;
  close(): void;
}

/** `onChange` is called with each owner whose list may have changed. */
export function createOwnerWatches(store: Store, onChange: (owner: string) => void): OwnerWatches {
  const watches = new Map<string, () => void>();
  return {
    set(owner, isWatched) {
      const stop = watches.get(owner);
      if (isWatched === (stop !== undefined)) return;
      if (isWatched) {
        const changed = (): void => onChange(owner);
        // Errors are ignored: the list is read again at the next call.
        watches.set(
          owner,
          McpOwners.watch(store, ownerRef(owner), changed, () => {}),
        );
      } else {
        watches.delete(owner);
        stop?.();
      }
    },
    close() {
      for (const stop of watches.values()) stop();
      watches.clear();
    },
  };
}
