// The per-key cache of an instance, bounded: the least recently used idle key is evicted first.
import type { Limit } from '../../config/values/limits.ts';
import type { Ref, Snapshot } from '../../store/store.ts';
import type { RateDecision, TakeRequest } from '../limiter.ts';
import type { Demand } from '../windows/block-policy.ts';
import { toLimitRef } from '../windows/limit-document.ts';
import type { LimitState } from '../windows/limit-state.ts';
import type { Traffic } from '../windows/traffic.ts';
import { HeldBlocks } from './held-blocks.ts';
import type { Bucket } from './outage.ts';

/** A call that waits for its decision. */
export interface Waiting {
  readonly request: TakeRequest;
  /** Monotonic milliseconds. */
  readonly queuedAtMs: number;
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
  /** Blocks of this key in the memory of this instance. */
  readonly held: HeldBlocks;
  readonly demand: Demand;
  readonly upkeep: Upkeep;
}

/** What the upkeep of the blocks of a key needs (block-keeper.ts). All times are monotonic milliseconds. */
export interface Upkeep {
  /** The limits of the last call that could use a block. Blocks are refilled under them. */
  limits: readonly Limit[];
  lastCallAtMs: number;
  /** The key was not revoked at this time for certain. */
  freshAtMs: number;
  /** Smoothed duration of a transaction, retries included. */
  commitMs: number;
  /** Instances that count the key in blocks, as of the last block. */
  holders: number;
  /** No transaction of the upkeep before this time. */
  pausedUntilMs: number;
  /** Consecutive failed transactions of the upkeep. */
  failures: number;
  isTicking: boolean;
  /** 0 to 1: where in the time before an edge this instance takes its block for the next windows. */
  readonly earlyPart: number;
}

/** Duration of a transaction before one was measured. */
const COMMIT_MS = 30;

export interface Entries {
  /** Finds or creates the entry of a key id. */
  entryOf(keyId: string): Entry;
  /** The key ids of which this instance holds blocks, or may take one in the transaction under way. */
  withBlocks(): readonly string[];
}

/** Eviction loses no count: the next call of the key reads the document again. */
export function createEntries(keysMax: number, random: () => number): Entries {
  const entries = new Map<string, Entry>();

  function entryOf(keyId: string): Entry {
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
        held: new HeldBlocks(),
        demand: { calls: 0, lost: 0, atMs: Number.NEGATIVE_INFINITY },
        upkeep: {
          limits: [],
          lastCallAtMs: Number.NEGATIVE_INFINITY,
          freshAtMs: Number.NEGATIVE_INFINITY,
          commitMs: COMMIT_MS,
          holders: 1,
          pausedUntilMs: Number.NEGATIVE_INFINITY,
          failures: 0,
          isTicking: false,
          earlyPart: random(),
        },
      };
    }
    entries.set(keyId, entry);
    return entry;
  }

  return {
    entryOf,
    withBlocks: () =>
      [...entries]
        .filter(([, { held, busy, upkeep }]) => upkeep.limits.length > 0 && (busy || !held.isEmpty))
        .map(([keyId]) => keyId),
  };
}

/**
 * A Map iterates in insertion order. Each busy entry has a waiting call, and those are bounded, so the map is bounded
 * too. An entry with blocks is evicted only where all idle ones have some; its blocks are lost until their windows end.
 */
function evictIdle(entries: Map<string, Entry>): void {
  let withBlocks: string | undefined;
  for (const [keyId, entry] of entries) {
    if (entry.busy) continue;
    if (entry.held.isEmpty) {
      entries.delete(keyId);
      return;
    }
    withBlocks ??= keyId;
  }
  if (withBlocks !== undefined) entries.delete(withBlocks);
}
