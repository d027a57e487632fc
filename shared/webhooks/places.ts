// Limits the subscriptions of one owner on this instance, over all its connections and streams. Each keeps events in
// memory until its reader has received them, so their number bounds the memory of one owner.
import { RpcError } from '../errors.ts';
import type { Store } from '../store/store.ts';

const SUBSCRIPTIONS_MAX = 8;

/** One count per store and process, like the feed. */
const counts = new WeakMap<Store, Map<string, number>>();

/**
 * Counts a subscription. Returns the function that ends it, which is idempotent. Throws RpcError `conflict` at the
 * limit.
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
