// Tokens per key and UTC day, and the optional daily budget. The tokens of settled turns are added in the key's next
// write: turns of one key do not wait for each other, a turn needs no second commit, and a busy key costs at most ten
// writes a second.
//
// The budget is checked when a prompt is admitted and charged when its turn has ended. So it can be exceeded by at most
// the turns that run at that moment on all instances; a turn counts as running until its tokens are stored (GATHER_MS
// after its end). If an instance is killed, the tokens of its running turns are missing in the total of the day, but
// not in turns and sessions.

import { type Clock, utcDay } from '../../clock.ts';
import { RpcError } from '../../errors.ts';
import { errorFields, type Logger } from '../../log.ts';
import { erasureOf, toLimitRef } from '../../rate-limit/windows/limit-document.ts';
import type { Snapshot, Store } from '../../store/store.ts';
import type { Usage } from '../../turn-events.ts';
import { addUsage } from '../../usage.ts';
import { addToDay, type DailyUsage, toDaily, usageRef } from './daily-usage.ts';
import { gather, isCounted, type Pending, pendingOf, putBack, takeGathered } from './pending-usage.ts';
import { toStorage } from './storage.ts';

const DAY_MS = 86_400_000;
const GATHER_MS = 100;
const RETRY_MS = 1_000;

export interface UsageLedger {
  /**
   * Counts a settled turn, which began at `sinceMs` (default: now), and the bytes by which its owner's storage has
   * changed. Returns at once; a failed write is repeated.
   */
  add(owner: string, usage: Usage, bytes?: number, sinceMs?: number): void;
  /** Bytes that this owner stores, from memory; undefined if they must be read. */
  stored(owner: string): number | undefined;
  /**
   * Caches a snapshot of the owner's storage document; returns its bytes plus those that this instance has not written
   * yet.
   */
  cacheTotal(owner: string, snapshot: Snapshot | undefined): number;
  /** Tokens that this key has used today: the stored counts plus those that this instance has not written yet. */
  today(owner: string): Promise<DailyUsage>;
  /**
   * Throws `rate_limited` (data.detail `daily_tokens`) when the budget of today is used up. Reads only when there is a
   * budget.
   */
  admit(owner: string): Promise<void>;
  /** Resolves when all counts so far are stored, or their write has failed once more. */
  flush(): Promise<void>;
}

export interface UsageLedgerDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  /** Tokens per key and UTC day; undefined: no budget. */
  readonly dailyTokens: number | undefined;
}

export function createUsageLedger({ store, clock, log, dailyTokens }: UsageLedgerDeps): UsageLedger {
  const keys = new Map<string, Pending>();

  const write = async (owner: string, pending: Pending): Promise<void> => {
    while (isCounted(pending)) {
      const { cached, storage, limits } = pending;
      const gathered = takeGathered(pending);
      try {
        Object.assign(pending, await addToDay({ store, clock }, owner, gathered, { cached, storage, limits }));
      } catch (error) {
        // A write with an unknown outcome is repeated: it may be counted twice, but is never lost.
        putBack(pending, gathered);
        log.warn('usage of the day not recorded, will be tried again', errorFields(error));
        startIn(RETRY_MS, owner, pending);
        break;
      }
    }
    // No await between the last check of `turns` and this assignment, so that no count is missed.
    pending.writing = undefined;
  };
  const start = async (owner: string, pending: Pending): Promise<void> => {
    clearTimeout(pending.timer);
    pending.timer = undefined;
    if (isCounted(pending)) pending.writing ??= write(owner, pending);
    await pending.writing;
  };
  const startIn = (ms: number, owner: string, pending: Pending): void => {
    pending.timer ??= setTimeout(() => void start(owner, pending), ms).unref();
  };
  const today = async (owner: string): Promise<DailyUsage> => {
    const day = utcDay(clock.now());
    const [snapshot, limits] = await store.get([usageRef(owner, day), toLimitRef(owner)]);
    const used = toDaily(snapshot, owner, day);
    const erased = erasureOf(limits);
    const spent = erased?.day === day ? erased.tokens : 0;
    const stored = { ...used, total_tokens: used.total_tokens + spent };
    const pending = keys.get(owner);
    return pending === undefined
      ? stored
      : { ...stored, ...addUsage(stored, pending.usage), turns: stored.turns + pending.turns };
  };

  return {
    today,
    add(owner, usage, bytes = 0, sinceMs = clock.now()) {
      if (usage.total_tokens <= 0 && bytes === 0) return;
      const pending = pendingOf(keys, owner);
      gather(pending, usage, bytes, sinceMs);
      startIn(GATHER_MS, owner, pending);
    },
    stored(owner) {
      const pending = keys.get(owner);
      return pending?.storage === undefined ? undefined : toStorage(pending.storage, owner).bytes + pending.bytes;
    },
    cacheTotal(owner, snapshot) {
      const pending = pendingOf(keys, owner);
      // While this instance writes, the result of the write is newer than this snapshot.
      if (pending.writing === undefined) pending.storage = snapshot;
      return toStorage(snapshot, owner).bytes + pending.bytes;
    },
    async admit(owner) {
      if (dailyTokens === undefined) return;
      await keys.get(owner)?.writing;
      const { total_tokens, day } = await today(owner);
      if (total_tokens < dailyTokens) return;
      throw budgetSpent(dailyTokens, total_tokens, Date.parse(day) + DAY_MS, clock.now());
    },
    async flush() {
      await Promise.all([...keys].map(([owner, pending]) => start(owner, pending)));
    },
  };
}

function budgetSpent(limit: number, used: number, resetMs: number, nowMs: number): RpcError {
  return new RpcError('rate_limited', {
    message: 'the daily token budget of this key is used up',
    data: { detail: 'daily_tokens', limit, used, remaining: 0, reset: resetMs / 1_000 },
    retryAfterMs: resetMs - nowMs,
  });
}
