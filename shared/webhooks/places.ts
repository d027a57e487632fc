// How many subscriptions one owner has on this instance, over all its connections and streams: each holds events until
// its reader has taken them, so their number bounds what one owner makes the instance hold and send.
import { RpcError } from '../errors.ts';
import type { Store } from '../store/store.ts';

export const SUBSCRIPTIONS_MAX = 8;

/** One count per store and process, as the feed of the events. */
const counts = new WeakMap<Store, Map<string, number>>();

/**
 * Takes a place and returns the function that gives it back, which may be called more than once. Throws RpcError
 * `conflict`.
 */
export function takePlace(store: Store, owner: string): () => void {
  const held = counts.get(store) ?? new Map<string, number>();
  counts.set(store, held);
  const count = held.get(owner) ?? 0;
  if (count >= SUBSCRIPTIONS_MAX) {
    throw new RpcError('conflict', {
      message:
        `at most ${SUBSCRIPTIONS_MAX} subscriptions of one key at a time, over all its connections and ` +
        'streams: end one ' +
        '(events.unsubscribe, or close its stream), or subscribe once without `event`',
      data: { limit: SUBSCRIPTIONS_MAX },
      retryable: false,
    });
  }
  held.set(owner, count + 1);
  let isHeld = true;
  return () => {
    if (!isHeld) return;
    isHeld = false;
    const left = (held.get(owner) ?? 1) - 1;
    if (left === 0) held.delete(owner);
    else held.set(owner, left);
  };
}
