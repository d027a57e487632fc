// Decides when the blocks of a key need a transaction that no call waits for. No I/O and no clock.
import { isBusy, rateOf } from '../windows/block-policy.ts';
import type { Entry } from './entries.ts';
import type { Moment } from './outage.ts';
import { earlyMs, isRefillDue, leadMs, nextEdgeMs } from './take-blocks.ts';

/** Time after the last call at which blocks are given back: with few instances, and with more. */
const IDLE_MS = 500;
const IDLE_MS_MANY = 2_500;
const FEW_HOLDERS = 15;

/** Whether the upkeep may start a transaction: none is under way, and the pause after the last one has ended. */
export function mayRun({ busy, upkeep }: Entry, atMs: number): boolean {
  return !busy && atMs >= upkeep.pausedUntilMs;
}

/** Whether the last call is so long ago that the blocks are given back. */
export function isIdle({ upkeep }: Entry, atMs: number): boolean {
  return atMs - upkeep.lastCallAtMs >= (upkeep.holders <= FEW_HOLDERS ? IDLE_MS : IDLE_MS_MANY);
}

/** Whether the next blocks of a busy key should be taken now. */
export function isNextDue({ held, demand, upkeep }: Entry, time: Moment): boolean {
  if (held.isEmpty || upkeep.limits.length === 0 || !isBusy(demand, time.atMs)) return false;
  const rate = rateOf(demand, time.atMs);
  const due = isRefillDue(held, upkeep.limits, { rate, leadMs: leadMs(upkeep) }, time);
  if (due.now || due.next) return true;
  const edgeMs = nextEdgeMs(upkeep.limits, time.nowMs);
  // Each instance has its own moment before the edge, so that they do not all commit at once.
  const early = earlyMs(upkeep.limits, upkeep);
  return held.leftFrom(edgeMs) === 0 && edgeMs - time.nowMs <= early * (0.15 + 0.6 * upkeep.earlyPart);
}
