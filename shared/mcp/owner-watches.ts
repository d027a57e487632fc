// Watches the list of a key's connections while this instance has one of them open, so that one that another instance
// has ended is closed here too.
import type { Store } from '../store/store.ts';
import { McpOwners } from './documents.ts';
import { ownerRef } from './records.ts';

export interface OwnerWatches {
  set(owner: string, isWatched: boolean): void;
  close(): void;
}

/** `onChange` gets each owner whose list may have changed. */
export function createOwnerWatches(store: Store, onChange: (owner: string) => void): OwnerWatches {
  const watches = new Map<string, () => void>();
  return {
    set(owner, isWatched) {
      const stop = watches.get(owner);
      if (isWatched === (stop !== undefined)) return;
      if (isWatched) {
        const changed = (): void => onChange(owner);
        // A list that cannot be read or watched is read at the next use.
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
