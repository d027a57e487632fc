// Decides which blocks a transaction takes: one for the current windows when those in memory will not last until the
// next transaction, and one for the windows after the next edge shortly before it, so that not all instances refill at
// the edge. No I/O and no clock.
import type { Limit } from '../../config/values/limits.ts';
import { lifeMs, sizeBlock } from '../windows/block-policy.ts';
import { addBlock } from '../windows/blocks.ts';
import type { Block, LimitState } from '../windows/limit-state.ts';
import type { Upkeep } from './entries.ts';
import type { HeldBlock, HeldBlocks } from './held-blocks.ts';
import type { Moment } from './outage.ts';

/** A block is taken at most this long before its windows begin, and at most half of the shortest window. */
const EARLY_MS_MAX = 3_000;
/** Calls for a refill must be left in memory for two transactions, within these bounds. */
const LEAD_MS_MIN = 40;
const LEAD_MS_MAX = 700;

/** Milliseconds before the last call of a block at which the next one is taken. */
export function leadMs({ commitMs }: Pick<Upkeep, 'commitMs'>): number {
  return Math.min(LEAD_MS_MAX, Math.max(LEAD_MS_MIN, 2 * commitMs + 20));
}

/** Epoch milliseconds at which the first of the current windows ends. */
export function nextEdgeMs(limits: readonly Limit[], nowMs: number): number {
  return Math.min(...limits.map(({ windowMs }) => (Math.floor(nowMs / windowMs) + 1) * windowMs));
}

/** How long before an edge blocks for the windows after it are taken. */
export function earlyMs(limits: readonly Limit[], { holders, commitMs }: Pick<Upkeep, 'holders' | 'commitMs'>): number {
  const shortest = Math.min(...limits.map(({ windowMs }) => windowMs));
  return Math.min(EARLY_MS_MAX, shortest / 2, lifeMs(holders, commitMs));
}

/** Whether the calls in memory last less than the time that a transaction needs: before the next edge, and after it. */
export function isRefillDue(
  held: HeldBlocks,
  limits: readonly Limit[],
  need: { readonly rate: number; readonly leadMs: number },
  time: Moment,
): { readonly now: boolean; readonly next: boolean } {
  const edgeMs = nextEdgeMs(limits, time.nowMs);
  const beforeMs = Math.min(need.leadMs, edgeMs - time.nowMs);
  const afterMs = need.leadMs - beforeMs;
  return {
    now: held.usableLeft(time, beforeMs) < (need.rate * beforeMs) / 1_000 + 1,
    next: afterMs > 0 && held.leftFrom(edgeMs) < (need.rate * afterMs) / 1_000 + 1,
  };
}

/** What a transaction does besides counting its calls; undefined: the key is not counted in blocks. */
export interface BlockPlan {
  readonly limits: readonly Limit[];
  /** Calls a second of the owner on this instance. */
  readonly rate: number;
  readonly mayTake: boolean;
}

export interface Taken {
  readonly blocks: readonly HeldBlock[];
  readonly holders: number;
}

export interface Taker {
  readonly id: string;
  readonly held: HeldBlocks;
  readonly upkeep: Upkeep;
  /** Ids of the blocks that this transaction may take; unused before it. */
  readonly ids: { now(): string; next(): string };
}

/** Takes the blocks that are due at `time` from `state`. */
export function takeBlocks(
  state: LimitState,
  { limits, rate }: Pick<BlockPlan, 'limits' | 'rate'>,
  { id, held, upkeep, ids }: Taker,
  time: Moment,
): { readonly state: LimitState; readonly taken: Taken } {
  const { nowMs, atMs } = time;
  const edgeMs = nextEdgeMs(limits, nowMs);
  const blocks: HeldBlock[] = [];
  let holders = upkeep.holders;
  let after = state;

  const take = (blockId: string, fromMs: number, left: number, useMs: (lifeMs: number) => number): void => {
    const leftInAll = held.left + blocks.reduce((sum, block) => sum + block.left, 0);
    const holder = { id, rate, left, leftInAll, commitMs: upkeep.commitMs };
    const { calls, ...size } = sizeBlock(after, limits, holder, { nowMs, atMs: fromMs, useMs });
    holders = size.holders;
    if (calls === 0) return;
    const aliveMs = size.lifeMs;
    const added = addBlock(
      after,
      limits,
      { id, rate },
      { id: blockId, calls, until_ms: nowMs + aliveMs },
      { nowMs, atMs: fromMs },
    );
    after = added.state;
    blocks.push({
      id: blockId,
      left: calls,
      limits,
      windows: added.block.windows,
      fromMs: fromMs > nowMs ? fromMs : Math.min(nowMs, startOf(added.block)),
      toMs: endOf(added.block),
      endsAtMs: atMs + aliveMs,
    });
  };

  // A block whose life crosses the edge is split into one for each side of it.
  const toEdgeMs = edgeMs - nowMs;
  const due = isRefillDue(held, limits, { rate, leadMs: leadMs(upkeep) }, time);
  if (due.now) take(ids.now(), nowMs, held.usableLeft(time), (life) => Math.min(life, toEdgeMs));
  const leftNext = held.leftFrom(edgeMs);
  if (toEdgeMs <= earlyMs(limits, upkeep) && (due.next || leftNext === 0)) {
    take(ids.next(), edgeMs, leftNext, (life) => Math.max(0, life - toEdgeMs));
  }
  return { state: after, taken: { blocks, holders } };
}

/**
 * Of all windows in which the block was counted, those of limits that are no longer configured included: a block is
 * used only while all of them are current.
 */
function startOf({ windows }: Block): number {
  return Math.max(...windows.map(({ start_ms }) => start_ms));
}

function endOf({ windows }: Block): number {
  return Math.min(...windows.map(({ start_ms, window_ms }) => start_ms + window_ms));
}
