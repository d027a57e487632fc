// What an instance remembers of each key between calls, and how much of it: the least recently used idle key is
// forgotten first.
import type { Ref, Snapshot } from '../store/store.ts';
import { toLimitRef } from './limit-document.ts';
import type { RateDecision, TakeRequest } from './limiter.ts';
import type { Bucket } from './outage.ts';
import type { Traffic } from './traffic.ts';
import type { LimitState } from './windows.ts';

/** A call between `take` and its decision. */
export interface Waiting {
  readonly request: TakeRequest;
  readonly resolve: (decision: RateDecision) => void;
  readonly reject: (reason: unknown) => void;
}

export interface Entry {
  readonly ref: Ref;
  /** The document after our last transaction, and its content: a lower bound of what is used. */
  snapshot: Snapshot | undefined;
  state: LimitState | undefined;
  /** When that was the stored state for certain, by the monotonic clock. */
  confirmedAtMs: number;
  readonly traffic: Traffic;
  waiting: Waiting[];
  /** A transaction is scheduled or running. */
  busy: boolean;
  readonly bucket: Bucket;
}

/** Finds or makes the entry of a key id. Forgetting one is harmless: it costs a read when its key comes back. */
export function createEntries(keysMax: number): (keyId: string) => Entry {
  const entries = new Map<string, Entry>();
  return (keyId) => {
    let entry = entries.get(keyId);
    if (entry !== undefined) entries.delete(keyId);
    else {
      if (entries.size >= keysMax) forgetIdle(entries);
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

/** A Map keeps the order of insertion. Busy entries are at most as many as calls may wait, so the map stays bounded. */
function forgetIdle(entries: Map<string, Entry>): void {
  for (const [keyId, entry] of entries) {
    if (entry.busy) continue;
    entries.delete(keyId);
    return;
  }
}
