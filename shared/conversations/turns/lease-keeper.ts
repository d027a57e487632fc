// Keeps the lease of a running turn and hears who else has a say in it: the heartbeat renews it, the watch tells of
// stop requests at once. When the watch fails, the heartbeat alone brings them.
import { errorFields } from '../../log.ts';
import type { Ref } from '../../store/store.ts';
import { transact } from '../../store/transact.ts';
import type { TurnParts } from '../deps.ts';
import type { ConversationDocument, Lease } from '../records/documents.ts';
import { isHeldBy, renew } from './lease.ts';

/** Short turns never pay for a watch; a stop request that comes earlier is seen when the watch starts. */
const WATCH_AFTER_MS = 100;

export interface LeaseEvents {
  /** Somebody asked the turn to stop. */
  stop(reason: NonNullable<Lease['stop']>): void;
  /** The turn is not ours any more. */
  lost(): void;
}

/** Runs until the returned function is called. */
export function keepLease(parts: TurnParts, ref: Ref, lease: Lease, events: LeaseEvents): () => void {
  const { store, clock, cache, turns } = parts;
  let unwatch: (() => void) | undefined;
  const warn = (message: string) => (error: unknown) =>
    parts.log.warn(message, { turn_id: lease.turn_id, ...errorFields(error) });

  const inspect = (conversation: ConversationDocument | undefined, otherwise: () => void): void => {
    const turn = conversation?.turn;
    if (!isHeldBy(turn, lease)) otherwise();
    else if (turn.stop !== null) events.stop(turn.stop);
  };
  const beat = async (): Promise<void> => {
    const { result, snapshots } = await transact(
      store,
      [ref],
      ([snapshot]) => {
        const current = cache.read(snapshot);
        const renewed = current && renew(current, lease, clock.now() + turns.leaseMs);
        return { writes: renewed === undefined ? [] : [{ ref, data: renewed }], result: renewed };
      },
      { cached: cache.get(ref) },
    );
    cache.set(ref, snapshots[0]);
    inspect(result, events.lost);
  };
  const beatNow = (): void => void beat().catch(warn('turn heartbeat failed'));

  const heartbeat = setInterval(beatNow, turns.heartbeatMs);
  const watcher = setTimeout(() => {
    unwatch = store.watch<ConversationDocument>(
      ref,
      // What a watch shows may be behind: only the store itself says that a lease is lost.
      ({ data }) => inspect(data, beatNow),
      warn('turn watch failed, the heartbeat goes on'),
    );
  }, WATCH_AFTER_MS);
  return () => {
    clearInterval(heartbeat);
    clearTimeout(watcher);
    unwatch?.();
  };
}
