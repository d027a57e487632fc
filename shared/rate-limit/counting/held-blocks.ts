// The blocks of one key in the memory of this instance: admits calls from them, and collects what must be given back.
// No I/O and no clock. A call of a block was counted by the commit that stored the block, so an admission here needs no
// store; it needs the same limits, a clock within the windows of the block, and a block that has not ended.
import { areSameLimits, type Limit } from '../../config/values/limits.ts';
import type { TakeRequest } from '../limiter.ts';
import type { GiveBack } from '../windows/blocks.ts';
import type { WindowLabel } from '../windows/limit-state.ts';
import type { Moment } from './outage.ts';

/** A block that this instance has taken. */
export interface HeldBlock {
  readonly id: string;
  left: number;
  readonly limits: readonly Limit[];
  /** The labels in which it was counted. */
  readonly windows: readonly WindowLabel[];
  /** The time of its windows by the wall clock, epoch milliseconds: from the first included to the last excluded. */
  readonly fromMs: number;
  readonly toMs: number;
  /** End of its life, monotonic milliseconds. */
  readonly endsAtMs: number;
}

/** A block whose windows begin more than this ahead of the clock: the clock has stepped back, so it is given back. */
const AHEAD_MS_MAX = 5_000;
/** Blocks that wait to be given back, at most; the oldest is lost. */
const GIVE_BACKS_MAX = 16;

export class HeldBlocks {
  private blocks: HeldBlock[] = [];
  private giveBacks: GiveBack[] = [];

  /** Whether any block is in use or waits to be given back. */
  get isEmpty(): boolean {
    return this.blocks.length === 0 && this.giveBacks.length === 0;
  }

  /** Calls left in blocks that are in use, in any window. */
  get left(): number {
    return this.blocks.reduce((sum, { left }) => sum + left, 0);
  }

  get toGiveBack(): readonly GiveBack[] {
    return this.giveBacks;
  }

  add(block: HeldBlock): void {
    this.blocks.push(block);
  }

  /** Takes a call from the first block that has room for it; undefined: none has. A free call needs any block. */
  take({ limits, cost }: Pick<TakeRequest, 'limits' | 'cost'>, time: Moment): HeldBlock | undefined {
    if (!Number.isSafeInteger(cost) || cost < 0) return undefined;
    const block = this.blocks.find(
      (each) => each.left >= cost && isUsable(each, time) && areSameLimits(each.limits, limits),
    );
    if (block !== undefined) block.left -= cost;
    return block;
  }

  /** Calls that can be admitted at `time` and still after another `aheadMs`. */
  usableLeft(time: Moment, aheadMs = 0): number {
    return this.blocks.reduce(
      (sum, block) => (isUsable(block, time) && block.endsAtMs > time.atMs + aheadMs ? sum + block.left : sum),
      0,
    );
  }

  /** Calls in blocks for the windows that begin at `edgeMs`. */
  leftFrom(edgeMs: number): number {
    return this.blocks.reduce(
      (sum, { left, fromMs, toMs }) => (fromMs <= edgeMs && toMs > edgeMs ? sum + left : sum),
      0,
    );
  }

  /** Stops using the blocks that have ended or are used up. What is left of them is to be given back. */
  retire(time: Moment): void {
    const ended = (block: HeldBlock): boolean =>
      block.left === 0 ||
      time.atMs >= block.endsAtMs ||
      time.nowMs >= block.toMs ||
      time.nowMs < block.fromMs - AHEAD_MS_MAX;
    this.giveUp(this.blocks.filter(ended));
  }

  /** Stops using all blocks. */
  surrender(): void {
    this.giveUp(this.blocks);
  }

  /** The calls left of each block in use. */
  leftById(): ReadonlyMap<string, number> {
    return new Map(this.blocks.map(({ id, left }) => [id, left]));
  }

  /** A commit has given these back. */
  givenBack(done: readonly GiveBack[]): void {
    const ids = new Set(done.map(({ id }) => id));
    this.giveBacks = this.giveBacks.filter(({ id }) => !ids.has(id));
  }

  /** Gives nothing back any more: what is left is lost until its windows end. */
  forget(): void {
    this.giveBacks = [];
  }

  private giveUp(blocks: readonly HeldBlock[]): void {
    if (blocks.length === 0) return;
    const gone = new Set(blocks);
    this.blocks = this.blocks.filter((block) => !gone.has(block));
    for (const { id, left } of blocks) this.giveBacks.push({ id, unused: left });
    if (this.giveBacks.length > GIVE_BACKS_MAX) this.giveBacks.splice(0, this.giveBacks.length - GIVE_BACKS_MAX);
  }
}

function isUsable({ left, fromMs, toMs, endsAtMs }: HeldBlock, { nowMs, atMs }: Moment): boolean {
  return left > 0 && nowMs >= fromMs && nowMs < toMs && atMs < endsAtMs;
}
