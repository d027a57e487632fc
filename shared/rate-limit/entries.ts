// The per-key cache of an instance, bounded: the least recently used idle key is evicted first.
import type { Ref, Snapshot } from '../store/store.ts';
import { toLimitRef } from './limit-document.ts';
import type { RateDecision, TakeRequest } from './limiter.ts';
import type { Bucket } from './outage.ts';
import type { Traffic } from './traffic.ts';
import type { LimitState } from './windows.ts';

/** A call that waits for its decision. */
export interface Waiting {
  readonly request: TakeRequest;
  readonly resolve: (decision: RateDecision) => void;
  readonly reject: (reason: unknown) => void;
}

export interface Entry {
  readonly ref: Ref;
  /** The document after this instance's last transaction, and its content: a lower bound of the calls used. */
  snapshot: Snapshot | undefined;
  state: LimitState | undefined;
  /** Monotonic milliseconds at which `state` was the stored state for certain. */
  confirmedAtMs: number;
  readonly traffic: Traffic;
  waiting: Waiting[];
  /** A transaction is scheduled or running. */
  busy: boolean;
  readonly bucket: Bucket;
}

/**
 * Returns a function that finds or creates the entry of a key id. Eviction loses no count: the next call of the key
 * reads the document again.
 */
export function createEntries(keysMax: number): (keyId: string) => Entry {
  const entries = new Map<string, Entry>();
  return (keyId) => {
    let entry = entries.get(keyId);
    if (entry !== undefined) entries.delete(keyId);
    else {
      if (entries.size >= keysMax) evictIdle(entries);
      entry = {
        ref: toLimitRef(keyId),
        snapshot: undefined,
        state: undefined,
        confirmedAtMs: Number.NEGATIVE_INFINITY,
        traffic: { calls: 0, elapsedMs: 0 },
        waiting: [],
        busy: false,
        bucket: { startMs: Number.NEGATIVE_INFINITY, used: 0 },
      };
    }
    entries.set(keyId, entry);
    return entry;
  };
}

/**
 * A Map iterates in insertion order. Each busy entry has a waiting call, and those are bounded, so the map is bounded
 * too.
 */
function evictIdle(entries: Map<string, Entry>): void {
  for (const [keyId, entry] of entries) {
    if (entry.busy) continue;
    entries.delete(keyId);
    return;
  }
}
