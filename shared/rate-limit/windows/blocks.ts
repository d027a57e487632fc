// Blocks in the document of a key: calls that an instance has counted ahead and admits from memory. Every call of a
// block is in the counts of its windows from the commit that stored it, so no label admits more than its limit,
// whatever happens to the instance. What is left is given back by the id of the block: once, because the record goes
// with it, and only to windows that are still stored. No I/O and no clock; block-policy.ts chooses the sizes.

import type { Limit } from '../../config/values/limits.ts';
import type { Block, Holder, LimitState, WindowLabel } from './limit-state.ts';
import { addCalls } from './windows.ts';

/** The unused calls of a block that its holder no longer uses. */
export interface GiveBack {
  readonly id: string;
  readonly unused: number;
}

/** A holder counts as present for this long after its last commit. */
const SEEN_MS = 12_000;
/** A stored life that ends later than this from now was written by a wrong clock. */
const LIFE_MS_MAX = 20_000;
/** Most holders of a document; one more instance takes no blocks. */
export const HOLDERS_MAX = 512;
/**
 * Most records of blocks that have ended and were not given back. Of more, the records of those that ended first are
 * dropped: their calls stay counted until their windows end.
 */
const LOST_MAX = 64;

/** Whether a block is still in use as far as the clock at `nowMs` can show. */
function isLive({ until_ms }: Block, nowMs: number): boolean {
  return until_ms > nowMs && until_ms <= nowMs + LIFE_MS_MAX;
}

/** The holders that have committed in the last 12 s, by the clock at `nowMs`. */
export function presentHolders({ holders = [] }: LimitState, nowMs: number): readonly Holder[] {
  return holders.filter(({ seen_ms }) => Math.abs(nowMs - seen_ms) < SEEN_MS);
}

/** Calls in all unexpired blocks. */
export function heldCalls({ holders = [] }: LimitState, nowMs: number): number {
  let calls = 0;
  for (const { blocks } of holders) for (const block of blocks) if (isLive(block, nowMs)) calls += block.calls;
  return calls;
}

/** The state as if the unused calls of each block that satisfies `isCounted` had been given back. */
export function withoutBlocks(state: LimitState, isCounted: (block: Block) => boolean = () => true): LimitState {
  const calls = new Map<string, number>();
  for (const block of (state.holders ?? []).flatMap(({ blocks }) => blocks)) {
    if (!isCounted(block)) continue;
    for (const label of block.windows) calls.set(keyOf(label), (calls.get(keyOf(label)) ?? 0) + block.calls);
  }
  if (calls.size === 0) return state;
  const windows = state.windows.map((window) => {
    const held = calls.get(keyOf(window)) ?? 0;
    return held === 0 ? window : { ...window, count: Math.max(0, window.count - held) };
  });
  return { ...state, windows };
}

/** What an instance changes about itself in one commit. */
export interface HolderUpdate {
  readonly id: string;
  readonly rate: number;
  /** Blocks that it still uses, with the calls left. */
  readonly left: ReadonlyMap<string, number>;
  readonly giveBacks: readonly GiveBack[];
}

/**
 * Gives back, and writes what is left of the other blocks. A block of this holder that it neither uses nor gives back
 * (its commit had an unknown outcome) is lost: its record goes, its calls stay counted. The same object as the one
 * passed in if the holder has no record.
 */
export function updateHolder(state: LimitState, update: HolderUpdate, nowMs: number): LimitState {
  const found = state.holders?.find(({ id }) => id === update.id);
  if (found === undefined) return state;
  let windows = state.windows;
  const blocks: Block[] = [];
  for (const block of found.blocks) {
    const left = update.left.get(block.id);
    if (left !== undefined) blocks.push(left < block.calls ? { ...block, calls: left } : block);
    else {
      const unused = update.giveBacks.find(({ id }) => id === block.id)?.unused ?? 0;
      windows = subtract(windows, block.windows, Math.min(unused, block.calls));
    }
  }
  return withHolder({ ...state, windows }, { ...found, rate: update.rate, seen_ms: nowMs, blocks });
}

/** Counts a block in the windows that are current at `atMs`: now, or the beginning of the next window. */
export function addBlock(
  state: LimitState,
  limits: readonly Limit[],
  holder: Pick<Holder, 'id' | 'rate'>,
  block: Pick<Block, 'id' | 'calls' | 'until_ms'>,
  { nowMs, atMs }: { readonly nowMs: number; readonly atMs: number },
): { readonly state: LimitState; readonly block: Block } {
  const { state: counted, labels } = addCalls(state, limits, block.calls, nowMs, atMs);
  const stored = { ...block, windows: labels };
  const blocks = state.holders?.find(({ id }) => id === holder.id)?.blocks ?? [];
  const { id, rate } = holder;
  return {
    state: withHolder(counted, { id, rate, seen_ms: nowMs, blocks: [...blocks, stored] }),
    block: stored,
  };
}

/**
 * Drops the records that can no longer be given back, holders that are gone, and the oldest lost blocks above the
 * bound. The same object if there are none. A label that is no longer stored is removed from its blocks for good: a
 * clock that steps back may create it again, with other calls.
 */
export function pruneHolders(state: LimitState, nowMs: number): LimitState {
  const { holders } = state;
  if (holders === undefined) return state;
  const stored = new Set(state.windows.map(keyOf));
  const ends = holders.flatMap(({ blocks }) => blocks.filter((block) => !isLive(block, nowMs)));
  const lostBeforeMs = ends.map(({ until_ms }) => until_ms).sort((a, b) => b - a)[LOST_MAX] ?? -1;
  const present = new Set(presentHolders(state, nowMs));
  const kept: Holder[] = [];
  for (const holder of holders) {
    const blocks = holder.blocks
      .map((block) =>
        block.windows.every((label) => stored.has(keyOf(label)))
          ? block
          : { ...block, windows: block.windows.filter((label) => stored.has(keyOf(label))) },
      )
      .filter(
        (block) =>
          block.windows.length > 0 && block.calls > 0 && (isLive(block, nowMs) || block.until_ms > lostBeforeMs),
      );
    if (blocks.length > 0 || present.has(holder)) kept.push({ ...holder, blocks });
  }
  if (kept.length > 0) return { ...state, holders: kept };
  const { holders: _gone, ...rest } = state;
  return rest;
}

function withHolder(state: LimitState, holder: Holder): LimitState {
  const others = (state.holders ?? []).filter(({ id }) => id !== holder.id);
  return { ...state, holders: [...others, holder] };
}

function subtract(
  windows: LimitState['windows'],
  labels: readonly WindowLabel[],
  calls: number,
): LimitState['windows'] {
  if (calls === 0) return windows;
  const keys = new Set(labels.map(keyOf));
  return windows.map((window) =>
    keys.has(keyOf(window)) ? { ...window, count: Math.max(0, window.count - calls) } : window,
  );
}

function keyOf({ window_ms, start_ms }: WindowLabel): string {
  return `${window_ms}@${start_ms}`;
}
