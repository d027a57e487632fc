// Which blocks a transaction takes: one for the current windows when those in memory will not last until the next
// transaction, and one for the windows after the next edge shortly before it, so that not all instances refill at the
// edge. No I/O and no clock.
import type { Limit } from '../config/limits.ts';
import { lifeMs, sizeBlock } from './block-policy.ts';
import { addBlock, type Block } from './blocks.ts';
import type { Upkeep } from './entries.ts';
import type { HeldBlock, HeldBlocks } from './held-blocks.ts';
import type { Moment } from './outage.ts';
import { type LimitState, tightest } from './windows.ts';

/** A block is taken at most this long before its windows begin, and at most half of the shortest window. */
const EARLY_MS_MAX = 3_000;
/** Calls for a refill must be left in memory for two transactions, within these bounds. */
const LEAD_MS_MIN = 40;
const LEAD_MS_MAX = 400;

/** Milliseconds before the last call of a block at which the next one is taken. */
export function leadMs({ commitMs }: Pick<Upkeep, 'commitMs'>): number {
  return Math.min(LEAD_MS_MAX, Math.max(LEAD_MS_MIN, 2 * commitMs + 20));
}

/** Epoch milliseconds at which the first of the current windows ends. */
export function nextEdgeMs(limits: readonly Limit[], nowMs: number): number {
  return Math.min(...limits.map(({ windowMs }) => (Math.floor(nowMs / windowMs) + 1) * windowMs));
}

/** How long before an edge blocks for the windows after it are taken. */
export function earlyMs(limits: readonly Limit[], holders: number): number {
  const shortest = Math.min(...limits.map(({ windowMs }) => windowMs));
  return Math.min(EARLY_MS_MAX, shortest / 2, 1.5 * lifeMs(holders));
}

/** Whether the calls in memory last less than the time that a transaction needs. */
export function isRefillDue(
  held: HeldBlocks,
  limits: readonly Limit[],
  need: { readonly rate: number; readonly leadMs: number },
  time: Moment,
): boolean {
  const aheadMs = Math.min(need.leadMs, nextEdgeMs(limits, time.nowMs) - time.nowMs);
  return held.usableLeft(time, aheadMs) < (need.rate * aheadMs) / 1_000 + 1;
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
  readonly ids: { readonly now: string; readonly next: string };
}

/** Takes the blocks that are due at `time` from `state`. */
export function takeBlocks(
  state: LimitState,
  { limits, rate }: { readonly limits: readonly Limit[]; readonly rate: number },
  { id, held, upkeep, ids }: Taker,
  time: Moment,
): { readonly state: LimitState; readonly taken: Taken } {
  const { nowMs, atMs } = time;
  const edgeMs = nextEdgeMs(limits, nowMs);
  const blocks: HeldBlock[] = [];
  let holders = 1;
  let after = state;

  const take = (blockId: string, fromMs: number, ownLeft: number): void => {
    const useMs = fromMs > nowMs ? Number.POSITIVE_INFINITY : edgeMs - nowMs;
    const { calls, ...size } = sizeBlock(after, limits, { id, rate, left: ownLeft }, { nowMs, atMs: fromMs, useMs });
    holders = size.holders;
    if (calls === 0) return;
    const aliveMs = fromMs - nowMs + size.lifeMs;
    const added = addBlock(
      after,
      limits,
      { id, rate },
      { id: blockId, calls, until_ms: nowMs + aliveMs },
      { nowMs, atMs: fromMs },
    );
    after = added.state;
    const { limit, remaining, resetAtMs } = tightest(after, limits, fromMs);
    blocks.push({
      id: blockId,
      left: calls,
      limits,
      fromMs: fromMs > nowMs ? fromMs : Math.min(nowMs, startOf(added.block)),
      toMs: endOf(added.block),
      endsAtMs: atMs + aliveMs,
      rate: { limit, remaining, resetAtMs },
    });
  };

  if (isRefillDue(held, limits, { rate, leadMs: leadMs(upkeep) }, time)) take(ids.now, nowMs, held.usableLeft(time));
  if (edgeMs - nowMs <= earlyMs(limits, upkeep.holders) && !held.hasBlockFrom(edgeMs)) take(ids.next, edgeMs, 0);
  return { state: after, taken: { blocks, holders } };
}

/** The windows of the block that the limits name and others: it is used only while all of them are current. */
function startOf({ windows }: Block): number {
  return Math.max(...windows.map(({ start_ms }) => start_ms));
}

function endOf({ windows }: Block): number {
  return Math.min(...windows.map(({ start_ms, window_ms }) => start_ms + window_ms));
}
