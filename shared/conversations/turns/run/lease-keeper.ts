// Keeps the lease of a running turn. The heartbeat renews it; the watch delivers stop requests at once. When the watch
// fails, stop requests arrive with the heartbeat only.
import { errorFields } from '../../../log.ts';
import type { Ref, Snapshot } from '../../../store/store.ts';
import { transact } from '../../../store/transact.ts';
import type { TurnDeps } from '../../deps.ts';
import { type ConversationDocument, Conversations, type Lease } from '../../records/documents.ts';
import { isHeldBy, renew } from '../lease.ts';

/** A short turn ends before its watch starts; an earlier stop request is delivered when the watch starts. */
const WATCH_AFTER_MS = 100;

export interface LeaseEvents {
  /** The document has a stop request. */
  stop(reason: NonNullable<Lease['stop']>): void;
  /** Another instance has taken over or ended the turn. */
  lost(): void;
  /** Another instance follows the turn. */
  followed(): void;
}

export interface LeaseKeeper {
  /**
   * Ends the watch before the turn's end is written: the watch would deliver that end, which looks like a lost lease
   * and costs a read to rule that out. The commit of the end still finds a stop request.
   */
  unwatch(): void;
  /** Ends the heartbeat and the watch. */
  release(): void;
}

/** Runs until `release` is called. */
export function keepLease(deps: TurnDeps, ref: Ref, lease: Lease, events: LeaseEvents): LeaseKeeper {
  const { store, clock, cache, turns } = deps;
  let endWatch: (() => void) | undefined;
  let followedAtMs = lease.followed_at_ms;
  const warn = (message: string) => (error: unknown) =>
    deps.log.warn(message, { turn_id: lease.turn_id, ...errorFields(error) });

  const inspect = (conversation: ConversationDocument | undefined, otherwise: () => void): void => {
    const turn = conversation?.turn;
    if (!isHeldBy(turn, lease)) {
      otherwise();
      return;
    }
    if (turn.stop !== null) events.stop(turn.stop);
    // The reader's clock does not matter, only that it has written another time.
    if (turn.followed_at_ms !== followedAtMs) events.followed();
    followedAtMs = turn.followed_at_ms;
  };
  /** A watch may deliver an older state: a lease is lost only when a read of the store shows it. */
  const onState = (snapshot: Snapshot): void => {
    try {
      const conversation = Conversations.read(snapshot);
      // Otherwise the next heartbeat or the end of the turn would conflict with the reader's write.
      const isMarked = conversation?.turn?.followed_at_ms !== followedAtMs;
      if (isMarked && isHeldBy(conversation?.turn, lease)) cache.set(ref, snapshot);
      inspect(conversation, beatNow);
    } catch (error) {
      warn('turn watch failed, the heartbeat goes on')(error);
    }
  };
  const beat = async (): Promise<void> => {
    const { result, snapshots } = await transact(
      store,
      [ref],
      ([snapshot]) => {
        const current = cache.read(snapshot);
        const renewed = current && renew(current, lease, clock.now() + turns.leaseMs);
        return { writes: renewed === undefined ? [] : [Conversations.write(ref, renewed)], result: renewed };
      },
      { cached: cache.get(ref) },
    );
    cache.set(ref, snapshots[0]);
    inspect(result, events.lost);
  };
  const beatNow = (): void => void beat().catch(warn('turn heartbeat failed'));

  const heartbeat = setInterval(beatNow, turns.heartbeatMs);
  const watcher = setTimeout(() => {
    endWatch = store.watch(ref, onState, warn('turn watch failed, the heartbeat goes on'));
  }, WATCH_AFTER_MS);
  const unwatch = (): void => {
    clearTimeout(watcher);
    endWatch?.();
    endWatch = undefined;
  };
  return {
    unwatch,
    release() {
      clearInterval(heartbeat);
      unwatch();
    },
  };
}
