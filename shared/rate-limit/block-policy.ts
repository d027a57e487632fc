// When an instance counts in blocks, how large a block is and how long it lives. No I/O and no clock. The sizes keep
// what all instances hold together small against the limit, and each instance's share in proportion to its calls, so
// that the last calls of a window are not held by an instance that does not need them.
import type { Limit } from '../config/limits.ts';
import { HOLDERS_MAX, heldCalls, presentHolders } from './blocks.ts';
import { type LimitState, tightest } from './windows.ts';

/** Each limit must allow this many calls. */
const LIMIT_MIN = 1_000;
/** Calls a second of one owner on an instance above which its calls are counted in blocks. */
const BUSY_RATE = 5;
/** Commits lost to other instances in the last seconds that count as busy too. */
const BUSY_LOST = 1.5;
/** Both are means over this time, milliseconds, with older calls fading. */
const MEMORY_MS = 2_000;
/** Part of the smallest limit that all unexpired blocks may hold together. */
const HELD_PART = 0.02;
/** Fewer calls are no block. */
const CALLS_MIN = 2;
/** Life of a block: 100 ms for each instance, within these bounds. */
const LIFE_PER_HOLDER_MS = 100;
const LIFE_MS_MIN = 1_000;
const LIFE_MS_MAX = 10_000;
/** Up to this many instances a block lives 2 s at most. */
const FEW_HOLDERS = 20;
const FEW_LIFE_MS_MAX = 2_000;

/** What one instance sees of an owner's calls; both counts fade. */
export interface Demand {
  calls: number;
  lost: number;
  /** Monotonic milliseconds of the last update. */
  atMs: number;
}

/** Fades the counts to `atMs` and adds to them. */
export function addDemand(demand: Demand, atMs: number, calls: number, lost = 0): void {
  const fading = Math.exp(-Math.max(0, atMs - demand.atMs) / MEMORY_MS);
  demand.calls = demand.calls * fading + calls;
  demand.lost = demand.lost * fading + lost;
  demand.atMs = Math.max(atMs, demand.atMs);
}

/** Calls a second at `atMs`. */
export function rateOf(demand: Demand, atMs: number): number {
  return (demand.calls * Math.exp(-Math.max(0, atMs - demand.atMs) / MEMORY_MS) * 1_000) / MEMORY_MS;
}

/** Whether the limits allow blocks at all. */
export function areBlocksAllowed(limits: readonly Limit[]): boolean {
  return limits.every(({ max }) => max >= LIMIT_MIN);
}

/** Whether the calls of an owner on this instance keep meeting one document. */
export function isBusy(demand: Demand, atMs: number): boolean {
  const fading = Math.exp(-Math.max(0, atMs - demand.atMs) / MEMORY_MS);
  return rateOf(demand, atMs) > BUSY_RATE || demand.lost * fading > BUSY_LOST;
}

/** Life of a block that is used by one of `holders` instances, milliseconds. */
export function lifeMs(holders: number): number {
  const life = Math.min(LIFE_MS_MAX, Math.max(LIFE_MS_MIN, holders * LIFE_PER_HOLDER_MS));
  return holders <= FEW_HOLDERS ? Math.min(FEW_LIFE_MS_MAX, life) : life;
}

/** A block that an instance may take now; `calls` 0: none. */
export interface BlockSize {
  readonly calls: number;
  readonly lifeMs: number;
  /** Instances that count the owner in blocks, this one included. */
  readonly holders: number;
}

/**
 * The size of the next block of a holder with `rate` calls a second and `left` calls in memory, for `useMs` at most, in
 * the windows that are current at `atMs`.
 */
export function sizeBlock(
  state: LimitState,
  limits: readonly Limit[],
  holder: { readonly id: string; readonly rate: number; readonly left: number },
  { nowMs, atMs, useMs }: { readonly nowMs: number; readonly atMs: number; readonly useMs: number },
): BlockSize {
  const others = presentHolders(state, nowMs).filter(({ id }) => id !== holder.id);
  const holders = others.length + 1;
  const life = lifeMs(holders);
  const none = { calls: 0, lifeMs: life, holders };
  const all = state.holders ?? [];
  const isFull = all.length >= HOLDERS_MAX && !all.some(({ id }) => id === holder.id);
  if (state.revoked || isFull) return none;
  const rate = Math.max(holder.rate, 1);
  const share = rate / others.reduce((sum, other) => sum + other.rate, rate);
  const heldMax = HELD_PART * Math.min(...limits.map(({ max }) => max));
  const calls = Math.floor(
    Math.min(
      (rate * Math.min(life, useMs)) / 1_000 - holder.left,
      heldMax * share - holder.left,
      heldMax - heldCalls(state, nowMs),
      (tightest(state, limits, atMs).remaining * share) / 2,
    ),
  );
  return calls < CALLS_MIN ? none : { calls, lifeMs: life, holders };
}
