// The conversations that this instance has read or committed last, so that an active session needs no read. The cache
// may be stale: every write requires the cached version, and conflicts if it is stale.
import { LRUCache } from 'lru-cache';
import { shareOfHeap } from '../../bounds/heap-share.ts';
import type { Ref, Snapshot } from '../../store/store.ts';
import { type ConversationDocument, Conversations } from './documents.ts';
import { charsOf } from './messages/texts.ts';
import type { Retention } from './retention.ts';

const CACHE_BYTES_MAX = shareOfHeap(1 / 8, 64 << 20);
/** Sessions that other instances write, too; of more, the least recently used ones count as written here only. */
const SHARED_MAX = 10_000;

export interface ConversationCache {
  /** In the form of the option `cached` of `transact`. */
  get(ref: Ref): readonly Snapshot[] | undefined;
  set(ref: Ref, snapshot: Snapshot | undefined): void;
  /**
   * False if the session must be read before it is used: it is not cached, or the cached version was outdated the last
   * time it was used, because another instance serves the session too.
   */
  isProbablyCurrent(ref: Ref): boolean;
  /**
   * As `set`, with a snapshot that was read before the session is used; records whether the cached one was outdated.
   */
  found(ref: Ref, snapshot: Snapshot | undefined): void;
  /** Records that another instance has written the session since `known` was cached. */
  outdated(known: Snapshot): void;
  /** The document in a snapshot of a conversation; undefined when absent, expired or being erased. */
  read(snapshot: Snapshot | undefined): ConversationDocument | undefined;
}

export function createConversationCache(retention: Retention): ConversationCache {
  const snapshots = new LRUCache<string, Snapshot>({
    maxSize: CACHE_BYTES_MAX,
    sizeCalculation: (snapshot) => {
      const data = Conversations.read(snapshot);
      return 1024 + (data?.recent ?? []).reduce((sum, message) => sum + charsOf(message) * 2 + 256, 0);
    },
  });
  const shared = new LRUCache<string, true>({ max: SHARED_MAX });
  const set = ({ id }: Ref, snapshot: Snapshot | undefined): void => {
    if (snapshot === undefined) snapshots.delete(id);
    else snapshots.set(id, snapshot);
  };
  return {
    get(ref) {
      const snapshot = snapshots.get(ref.id);
      return snapshot === undefined ? undefined : [snapshot];
    },
    set,
    isProbablyCurrent: ({ id }) => snapshots.has(id) && !shared.has(id),
    found(ref, snapshot) {
      const known = snapshots.peek(ref.id);
      if (known !== undefined && known.version !== snapshot?.version) shared.set(ref.id, true);
      else shared.delete(ref.id);
      set(ref, snapshot);
    },
    outdated: ({ ref }) => void shared.set(ref.id, true),
    read(snapshot) {
      const data = Conversations.read(snapshot);
      return data === undefined || data.deleted || retention.isExpired(data) ? undefined : data;
    },
  };
}
