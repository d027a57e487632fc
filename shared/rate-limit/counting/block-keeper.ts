// Admits calls from the blocks of a key, and starts the transactions for them that no call waits for: refills,
// give-backs after the last call, and reads that find a revocation. A timer ticks per key while this instance holds
// blocks of it; nothing runs for other keys.
import type { Clock } from '../../clock.ts';
import type { RateDecision, TakeRequest } from '../limiter.ts';
import { addDemand, areBlocksAllowed, isBusy, rateOf } from '../windows/block-policy.ts';
import { EMPTY_STATE } from '../windows/limit-state.ts';
import { tightestLabel } from '../windows/windows.ts';
import type { BlockPlan } from './compute-round.ts';
import type { Entry } from './entries.ts';
import type { Moment, Outage } from './outage.ts';
import { earlyMs, isRefillDue, leadMs, nextEdgeMs } from './take-blocks.ts';
import type { Timers } from './timers.ts';

const TICK_MS = 100;
/** Time after the last call at which blocks are given back: with few instances, and with more. */
const IDLE_MS = 500;
const IDLE_MS_MANY = 2_500;
const FEW_HOLDERS = 15;
/** Blocks admit calls for this long after the key was certainly not revoked. */
const FRESH_MS = 2_000;
/** The document is read when the last transaction is this old, so that a revocation is found within 2 s. */
const REREAD_MS = 1_300;
/** A refill that was too small to be a block is repeated after this time at the earliest. */
const SMALL_PAUSE_MS = 100;
/** The pause after a failed transaction doubles up to the second value. */
const FAILED_PAUSE_MS = 250;
const FAILED_PAUSE_MAX_MS = 5_000;
/** After this many failures in a row nothing is given back any more. */
const FAILURES_MAX = 20;

export interface BlockKeeper {
  /** Admits a call from memory, or returns undefined. */
  admit(entry: Entry, request: TakeRequest, time: Moment): RateDecision | undefined;
  /** Records a call, so that the next transaction takes blocks for such calls if there are many. */
  observe(entry: Entry, request: TakeRequest, atMs: number): void;
  /** What a transaction of the key does about blocks; undefined: nothing. */
  planOf(entry: Entry, mayTake: boolean): BlockPlan | undefined;
  /** Starts what is due. Call it after each admission from memory and each transaction. */
  proceed(entry: Entry): void;
  /** A transaction of the key has failed. */
  failed(entry: Entry): void;
}

export interface KeeperDeps {
  /** False: no key is counted in blocks. */
  readonly hasBlocks: boolean;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly outage: Outage;
  /** Starts a transaction of the key; with `mustRead` it does not rely on the cached document. */
  readonly run: (entry: Entry, mustRead: boolean) => void;
}

export function createBlockKeeper({ hasBlocks, clock, timers, outage, run }: KeeperDeps): BlockKeeper {
  const now = (): Moment => ({ nowMs: clock.now(), atMs: clock.monotonic() });

  function proceed(entry: Entry): void {
    const time = now();
    if (!outage.open && mayRun(entry, time.atMs) && !isIdle(entry) && isDue(entry, time)) refill(entry, time);
    keepTicking(entry);
  }

  function keepTicking(entry: Entry): void {
    if (entry.upkeep.isTicking || entry.held.isEmpty) return;
    entry.upkeep.isTicking = true;
    timers.after(TICK_MS, () => {
      entry.upkeep.isTicking = false;
      tick(entry);
    });
  }

  function tick(entry: Entry): void {
    const time = now();
    const { held, upkeep } = entry;
    held.retire(time);
    if (isIdle(entry)) held.surrender();
    if (upkeep.failures >= FAILURES_MAX) held.forget();
    if (mayRun(entry, time.atMs) && !held.isEmpty) {
      if (isIdle(entry)) begin(entry, false);
      else if (!outage.open && isDue(entry, time)) refill(entry, time);
      else if (held.left === 0) begin(entry, false);
      else if (time.atMs - upkeep.freshAtMs > REREAD_MS) begin(entry, true);
    }
    keepTicking(entry);
  }

  function refill(entry: Entry, { atMs }: Moment): void {
    entry.upkeep.pausedUntilMs = atMs + Math.max(SMALL_PAUSE_MS, entry.upkeep.commitMs);
    run(entry, false);
  }

  /** During an outage it is one of the probes: without another call, nothing else would find that the store is back. */
  function begin(entry: Entry, mustRead: boolean): void {
    if (outage.mayTry(clock.monotonic())) run(entry, mustRead);
  }

  function mayRun({ busy, upkeep }: Entry, atMs: number): boolean {
    return !busy && atMs >= upkeep.pausedUntilMs;
  }

  function isDue({ held, demand, upkeep }: Entry, time: Moment): boolean {
    if (held.isEmpty || upkeep.limits.length === 0 || !isBusy(demand, time.atMs)) return false;
    const rate = rateOf(demand, time.atMs);
    const due = isRefillDue(held, upkeep.limits, { rate, leadMs: leadMs(upkeep) }, time);
    if (due.now || due.next) return true;
    const edgeMs = nextEdgeMs(upkeep.limits, time.nowMs);
    // Each instance has its own moment before the edge, so that they do not all commit at once.
    const early = earlyMs(upkeep.limits, upkeep);
    return held.leftFrom(edgeMs) === 0 && edgeMs - time.nowMs <= early * (0.15 + 0.6 * upkeep.earlyPart);
  }

  function isIdle({ upkeep }: Entry): boolean {
    return clock.monotonic() - upkeep.lastCallAtMs >= (upkeep.holders <= FEW_HOLDERS ? IDLE_MS : IDLE_MS_MANY);
  }

  return {
    proceed,
    admit(entry, request, time) {
      if (!areBlocksAllowed(request.limits) || time.atMs - entry.upkeep.freshAtMs >= FRESH_MS) return undefined;
      const block = entry.held.take(request, time);
      if (block === undefined) return undefined;
      const { limit, remaining, resetAtMs } = tightestLabel(entry.state ?? EMPTY_STATE, block);
      // The stored counts include what this instance has left in its blocks.
      const left = Math.min(limit, remaining + entry.held.usableLeft(time));
      return { outcome: 'admitted', degraded: false, limit, remaining: left, resetAtMs };
    },
    observe(entry, { limits, cost }, atMs) {
      if (!hasBlocks || !areBlocksAllowed(limits)) return;
      addDemand(entry.demand, atMs, cost);
      Object.assign(entry.upkeep, { limits, lastCallAtMs: atMs });
    },
    planOf(entry, mayTakeBlocks) {
      const { held, demand, upkeep } = entry;
      const time = now();
      held.retire(time);
      const isWanted = upkeep.limits.length > 0 && isBusy(demand, time.atMs) && !isIdle(entry);
      const mayTake = mayTakeBlocks && isWanted && !outage.open;
      if (!mayTake && held.isEmpty) return undefined;
      return { limits: upkeep.limits, rate: Math.round(rateOf(demand, time.atMs) * 100) / 100, mayTake };
    },
    failed(entry) {
      const { upkeep } = entry;
      const pauseMs = Math.min(FAILED_PAUSE_MAX_MS, FAILED_PAUSE_MS * 2 ** upkeep.failures);
      upkeep.failures++;
      upkeep.pausedUntilMs = clock.monotonic() + pauseMs * (0.5 + timers.random() / 2);
    },
  };
}
