// Starts the transactions for the blocks of a key that no call waits for: refills, give-backs after the last call, and
// reads that find a revocation. A timer ticks per key while this instance holds blocks of it; nothing runs for other
// keys.
import type { Clock } from '../../clock.ts';
import type { TakeRequest } from '../limiter.ts';
import { addDemand, areBlocksAllowed, isBusy, rateOf } from '../windows/block-policy.ts';
import type { Entry } from './entries.ts';
import type { Moment, Outage } from './outage.ts';
import type { BlockPlan } from './take-blocks.ts';
import type { Timers } from './timers.ts';
import { isIdle, isNextDue, mayRun } from './upkeep-due.ts';

const TICK_MS = 100;
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
  /** Records a call, so that the next transaction takes blocks for such calls if there are many. */
  observe(entry: Entry, request: TakeRequest, atMs: number): void;
  /** What a transaction of the key does about blocks; undefined: nothing. */
  planOf(entry: Entry, mayTake: boolean): BlockPlan | undefined;
  /** Starts what is due. Call it after each admission from memory and each transaction. */
  proceed(entry: Entry): void;
  /** A transaction of the key has failed. */
  failed(entry: Entry): void;
  /** From now on blocks are given back only. */
  close(): void;
  readonly isClosing: boolean;
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
  let isClosing = false;

  function proceed(entry: Entry): void {
    const time = now();
    const mayRefill = !outage.open && mayRun(entry, time.atMs) && !isIdle(entry, time.atMs);
    if (mayRefill && isNextDue(entry, time)) refill(entry, time);
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
    if (isIdle(entry, time.atMs)) held.surrender();
    if (upkeep.failures >= FAILURES_MAX) held.forget();
    if (mayRun(entry, time.atMs) && !held.isEmpty) {
      if (isIdle(entry, time.atMs)) begin(entry, false);
      else if (!outage.open && isNextDue(entry, time)) refill(entry, time);
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

  return {
    proceed,
    observe(entry, { limits, cost }, atMs) {
      if (!hasBlocks || !areBlocksAllowed(limits)) return;
      addDemand(entry.demand, atMs, cost);
      Object.assign(entry.upkeep, { limits, lastCallAtMs: atMs });
    },
    planOf(entry, mayTakeBlocks) {
      const { held, demand, upkeep } = entry;
      const time = now();
      held.retire(time);
      const isWanted = upkeep.limits.length > 0 && isBusy(demand, time.atMs) && !isIdle(entry, time.atMs);
      const mayTake = mayTakeBlocks && !isClosing && isWanted && !outage.open;
      if (!mayTake && held.isEmpty) return undefined;
      return { limits: upkeep.limits, rate: Math.round(rateOf(demand, time.atMs) * 100) / 100, mayTake };
    },
    failed(entry) {
      const { upkeep } = entry;
      const pauseMs = Math.min(FAILED_PAUSE_MAX_MS, FAILED_PAUSE_MS * 2 ** upkeep.failures);
      upkeep.failures++;
      upkeep.pausedUntilMs = clock.monotonic() + pauseMs * (0.5 + timers.random() / 2);
    },
    close() {
      isClosing = true;
    },
    get isClosing() {
      return isClosing;
    },
  };
}
