// The conversations that this instance has read or committed last, so that an active session needs no read. The cache
// may be stale: every write requires the cached version, and conflicts if it is stale.
import { LRUCache } from 'lru-cache';
import { shareOfHeap } from '../../heap-share.ts';
import type { Ref, Snapshot } from '../../store/store.ts';
import { type ConversationDocument, Conversations } from './documents.ts';
import { charsOf } from './texts.ts';

const CACHE_BYTES_MAX = shareOfHeap(1 / 8, 64 << 20);

export interface ConversationCache {
  /** In the form of the option `cached` of `transact`. */
  get(ref: Ref): readonly Snapshot[] | undefined;
  set(ref: Ref, snapshot: Snapshot | undefined): void;
  /** The document in a snapshot of a conversation; undefined when absent or being erased. */
  read(snapshot: Snapshot | undefined): ConversationDocument | undefined;
}

export function createConversationCache(): ConversationCache {
  const snapshots = new LRUCache<string, Snapshot>({
    maxSize: CACHE_BYTES_MAX,
    sizeCalculation: (snapshot) => {
      const data = Conversations.read(snapshot);
      return 1024 + (data?.recent ?? []).reduce((sum, message) => sum + charsOf(message) * 2 + 256, 0);
    },
  });
  return {
    get(ref) {
      const snapshot = snapshots.get(ref.id);
      return snapshot === undefined ? undefined : [snapshot];
    },
    set(ref, snapshot) {
      if (snapshot === undefined) snapshots.delete(ref.id);
      else snapshots.set(ref.id, snapshot);
    },
    read(snapshot) {
      const data = Conversations.read(snapshot);
      return data?.deleted === true ? undefined : data;
    },
  };
}
