// Decides when an instance counts in blocks, how large a block is and how long it is valid. No I/O and no clock. The
// sizes keep what all instances hold together small against the limit, and each instance's share in proportion to its
// calls, so that the last calls of a window are not held by an instance that does not need them.
import type { Limit } from '../../config/values/limits.ts';
import { HOLDERS_MAX, heldCalls, presentHolders } from './blocks.ts';
import type { LimitState } from './limit-state.ts';
import { tightest } from './windows.ts';

/** Each limit must allow this many calls. */
const LIMIT_MIN = 1_000;
/** Calls a second of one owner on an instance above which its calls are counted in blocks. */
const BUSY_RATE = 5;
/** Commits lost to other instances in the last seconds from which on an owner counts as busy, too. */
const BUSY_LOST = 1.5;
/**
 * Older calls and lost commits decay over these times, milliseconds. Blocks prevent lost commits, so both are needed.
 */
const CALLS_MEMORY_MS = 2_000;
const LOST_MEMORY_MS = 10_000;
/** Part of the smallest limit that all unexpired blocks may hold together. */
const HELD_PART = 0.02;
/** Calls of the smallest block. */
const CALLS_MIN = 2;
/** Life of a block: 100 ms for each instance, or the time of this many commits, within these bounds. */
const LIFE_PER_HOLDER_MS = 100;
const LIFE_COMMITS = 8;
const LIFE_MS_MIN = 1_000;
const LIFE_MS_MAX = 10_000;
/** Up to this many instances a block lives 2 s at most, and each takes no more than its share. */
const FEW_HOLDERS = 20;
const FEW_LIFE_MS_MAX = 2_000;
/**
 * With more instances, an instance that commits may take several shares, because the document cannot be written as
 * often as one commit for each share requires.
 */
const SHARES_MANY = 2;
/** A block lives this much longer than its calls last, so that used-up blocks do not count as held. */
const LIFE_PER_USE = 1.5;
/** Upper bound of the random pause after a lost commit: for each instance that has waited longer; and its minimum. */
const PAUSE_PER_RANK_MS = 60;
const PAUSE_MS_MIN = 50;
/** The same for an instance that is not in the document, as a part of all instances. */
const RANK_PART_NEW = 0.2;
/** The same with few instances: grows with each lost commit up to this. */
const PAUSE_GROWTH = 1.3;
const PAUSE_MS_MAX = 1_500;

/** The calls of an owner on one instance, and the commits that it lost; both counts decay. */
export interface Demand {
  calls: number;
  lost: number;
  /** Monotonic milliseconds of the last update. */
  atMs: number;
}

/** Lets the counts decay until `atMs`, then adds to them. */
export function addDemand(demand: Demand, atMs: number, calls: number, lost = 0): void {
  demand.calls = faded(demand, demand.calls, CALLS_MEMORY_MS, atMs) + calls;
  demand.lost = faded(demand, demand.lost, LOST_MEMORY_MS, atMs) + lost;
  demand.atMs = Math.max(atMs, demand.atMs);
}

/** Calls a second at `atMs`. */
export function rateOf(demand: Demand, atMs: number): number {
  return (faded(demand, demand.calls, CALLS_MEMORY_MS, atMs) * 1_000) / CALLS_MEMORY_MS;
}

function faded({ atMs }: Demand, count: number, memoryMs: number, nowMs: number): number {
  return count * Math.exp(-Math.max(0, nowMs - atMs) / memoryMs);
}

/** Whether the limits allow blocks at all. */
export function areBlocksAllowed(limits: readonly Limit[]): boolean {
  return limits.every(({ max }) => max >= LIMIT_MIN);
}

/** Whether the calls of an owner on this instance keep meeting one document. */
export function isBusy(demand: Demand, atMs: number): boolean {
  return rateOf(demand, atMs) > BUSY_RATE || faded(demand, demand.lost, LOST_MEMORY_MS, atMs) > BUSY_LOST;
}

/** Life of a block that is used by one of `holders` instances, which needs `commitMs` to take one; milliseconds. */
export function lifeMs(holders: number, commitMs: number): number {
  const wanted = Math.ceil(Math.max(holders * LIFE_PER_HOLDER_MS, commitMs * LIFE_COMMITS));
  const life = Math.min(LIFE_MS_MAX, Math.max(LIFE_MS_MIN, wanted));
  return holders <= FEW_HOLDERS ? Math.min(FEW_LIFE_MS_MAX, life) : life;
}

/**
 * Upper bound of the random pause of a holder after it has lost a commit for the `round`th time, milliseconds. With
 * many instances, the one that has waited longest comes first: random pauses alone would leave some behind for many
 * rounds.
 */
export function retryPauseMs(state: LimitState, id: string, round: number, nowMs: number): number {
  const present = presentHolders(state, nowMs);
  if (present.length <= FEW_HOLDERS) return Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * PAUSE_GROWTH ** round);
  const own = present.find((holder) => holder.id === id);
  const rank =
    own === undefined ? present.length * RANK_PART_NEW : present.filter(({ seen_ms }) => seen_ms < own.seen_ms).length;
  return Math.max(PAUSE_MS_MIN, rank * PAUSE_PER_RANK_MS);
}

/** A block that an instance may take now; `calls` 0: none. */
export interface BlockSize {
  readonly calls: number;
  readonly lifeMs: number;
  /** Instances that count the owner in blocks, this one included. */
  readonly holders: number;
}

export interface SizedHolder {
  readonly id: string;
  readonly rate: number;
  /** Calls in memory for the same windows, and for all. */
  readonly left: number;
  readonly leftInAll: number;
  /** Smoothed duration of a transaction. */
  readonly commitMs: number;
}

export interface SizeTimes {
  readonly nowMs: number;
  readonly atMs: number;
  /** The part of the block's life in which it is used, milliseconds. */
  readonly useMs: (lifeMs: number) => number;
}

/** The size of the next block of a holder in the windows that are current at `atMs`. */
export function sizeBlock(
  state: LimitState,
  limits: readonly Limit[],
  holder: SizedHolder,
  { nowMs, atMs, useMs }: SizeTimes,
): BlockSize {
  const others = presentHolders(state, nowMs).filter(({ id }) => id !== holder.id);
  const holders = others.length + 1;
  const life = lifeMs(holders, holder.commitMs);
  const none = { calls: 0, lifeMs: life, holders };
  const all = state.holders ?? [];
  const isFull = all.length >= HOLDERS_MAX && !all.some(({ id }) => id === holder.id);
  if (state.revoked || isFull) return none;
  const rate = Math.max(holder.rate, 1);
  const share = rate / others.reduce((sum, other) => sum + other.rate, rate);
  const shares = holders <= FEW_HOLDERS ? 1 : SHARES_MANY;
  const heldMax = HELD_PART * Math.min(...limits.map(({ max }) => max));
  const calls = Math.floor(
    Math.min(
      (rate * useMs(life)) / 1_000 - holder.left,
      heldMax * share * shares - holder.leftInAll,
      heldMax - heldCalls(state, nowMs),
      (tightest(state, limits, atMs).remaining * share) / 2,
    ),
  );
  if (calls < CALLS_MIN) return none;
  const usedAfterMs = atMs - nowMs + Math.max(LIFE_MS_MIN, (LIFE_PER_USE * calls * 1_000) / rate);
  return { calls, lifeMs: Math.min(life, Math.ceil(usedAfterMs)), holders };
}
