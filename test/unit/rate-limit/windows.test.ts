// The arithmetic of windows admits at most the limit for each label, whatever the clocks of the instances show, and its
// headers agree with the decision.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Limit } from '../../../shared/config/values/limits.ts';
import { EMPTY_STATE, type LimitState } from '../../../shared/rate-limit/windows/limit-state.ts';
import { charge, endOf, refuse } from '../../../shared/rate-limit/windows/windows.ts';

const MINUTE = 60_000;
const HOUR = 3_600_000;
const NOON = Date.UTC(2026, 0, 1, 12);
const LIMITS: readonly Limit[] = [
  { max: 3, windowMs: MINUTE },
  { max: 5, windowMs: HOUR },
];

const limits = fc.uniqueArray(
  fc.record({ max: fc.integer({ min: 1, max: 12 }), windowMs: fc.constantFrom(1_000, 7_000, MINUTE, HOUR) }),
  { minLength: 1, maxLength: 3, selector: (limit) => limit.windowMs },
);
/** Calls as several instances make them: each with its own clock, up to 30 s wrong, some with another configuration. */
const calls = fc.array(
  fc.record({
    afterMs: fc.integer({ min: 0, max: 20_000 }),
    skewMs: fc.constantFrom(-30_000, -1, 0, 0, 0, 30_000),
    cost: fc.integer({ min: 1, max: 6 }),
  }),
  { maxLength: 80 },
);

describe('charge', () => {
  test('charge never admits more than max per window label, for any clocks of the instances', () => {
    fc.assert(
      fc.property(limits, calls, (limits, calls) => {
        const used = new Map<string, number>();
        let state: LimitState = EMPTY_STATE;
        let trueMs = NOON;
        for (const { afterMs, skewMs, cost } of calls) {
          trueMs += afterMs;
          const before = state;
          const { decision, state: after } = charge(before, limits, cost, trueMs + skewMs);
          state = after;
          if (decision.outcome !== 'admitted') continue;
          for (const { max, windowMs } of limits) {
            const window = after.windows.find((window) => window.window_ms === windowMs);
            const label = `${windowMs}@${window?.start_ms}`;
            const total = (used.get(label) ?? 0) + cost;
            used.set(label, total);
            expect(total).toBeLessThanOrEqual(max);
            expect(window?.count).toBe(total);
          }
        }
      }),
    );
  });

  test('charge is exact per label for groups of clocks that are hours, days and years apart', () => {
    const HOURS_8 = 8 * HOUR;
    const wrong = fc.array(
      fc.record({
        afterMs: fc.integer({ min: 0, max: 90_000 }),
        skewMs: fc.constantFrom(0, 0, 20_000, HOURS_8, HOURS_8, 400 * 24 * HOUR),
        cost: fc.integer({ min: 1, max: 6 }),
      }),
      { maxLength: 120 },
    );
    fc.assert(
      fc.property(limits, wrong, (limits, calls) => {
        const used = new Map<string, number>();
        let state: LimitState = EMPTY_STATE;
        let trueMs = NOON;
        for (const { afterMs, skewMs, cost } of calls) {
          trueMs += afterMs;
          const { decision, state: after } = charge(state, limits, cost, trueMs + skewMs);
          state = after;
          expect(after.windows.length).toBeLessThanOrEqual(4 * limits.length);
          expect(decision.retryAfterMs ?? 0).toBeLessThanOrEqual(Math.max(...limits.map(({ windowMs }) => windowMs)));
          if (decision.outcome !== 'admitted') continue;
          for (const { max, windowMs } of limits) {
            const window = after.windows.find((window) => window.window_ms === windowMs);
            const label = `${windowMs}@${window?.start_ms}`;
            used.set(label, (used.get(label) ?? 0) + cost);
            expect(used.get(label)).toBeLessThanOrEqual(max);
          }
        }
      }),
    );
  });

  test.each([
    ['three minutes', 3 * MINUTE],
    ['8 hours', 8 * HOUR],
    ['400 days', 400 * 24 * HOUR],
  ])('a clock that was %s ahead for four calls leaves everything as it was', (_name, aheadMs) => {
    const before = charge(EMPTY_STATE, LIMITS, 1, NOON).state;
    let state = before;
    const wrong = Array.from({ length: 4 }, () => {
      const { decision, state: after } = charge(state, LIMITS, 1, NOON + aheadMs);
      state = after;
      return decision.outcome;
    });
    expect(wrong).toEqual(['admitted', 'admitted', 'admitted', 'rate_limited']);
    const right = charge(state, [{ max: 3, windowMs: MINUTE }], 1, NOON + 1);
    expect(right.decision).toMatchObject({ outcome: 'admitted', remaining: 1, resetAtMs: NOON + MINUTE });
    // The clock that is wrong finds its own count, too.
    expect(charge(right.state, LIMITS, 1, NOON + aheadMs).decision.outcome).toBe('rate_limited');
  });

  test('a refusal charges nothing, and an admission charges every window', () => {
    fc.assert(
      fc.property(limits, calls, (limits, calls) => {
        let state: LimitState = EMPTY_STATE;
        let nowMs = NOON;
        for (const { afterMs, cost } of calls) {
          nowMs += afterMs;
          const { decision, state: after } = charge(state, limits, cost, nowMs);
          if (decision.outcome === 'admitted') {
            expect(after.windows.slice(0, limits.length).map(({ window_ms }) => window_ms)).toEqual(
              limits.map(({ windowMs }) => windowMs),
            );
          } else expect(after).toBe(state);
          state = after;
        }
      }),
    );
  });

  test('the headers agree with the decision', () => {
    fc.assert(
      fc.property(limits, calls, (limits, calls) => {
        let state: LimitState = EMPTY_STATE;
        let nowMs = NOON;
        for (const { afterMs, skewMs, cost } of calls) {
          nowMs += afterMs;
          const now = nowMs + skewMs;
          const { decision, state: after } = charge(state, limits, cost, now);
          state = after;
          expect(decision.remaining).toBeGreaterThanOrEqual(0);
          expect(decision.remaining).toBeLessThanOrEqual(decision.limit);
          expect(decision.resetAtMs).toBeGreaterThan(now);
          expect(limits.some(({ max }) => max === decision.limit)).toBe(true);
          if (decision.outcome === 'rate_limited') {
            expect(decision.remaining).toBeLessThan(cost);
            expect(decision.retryAfterMs).toBeGreaterThan(0);
            expect(decision.retryAfterMs).toBeLessThanOrEqual(decision.resetAtMs - now);
          } else {
            // `remaining` is what a caller may rely on: one more call of that cost fits, one above it does not.
            if (decision.remaining > 0) expect(refuse(after, limits, decision.remaining, now)).toBeUndefined();
            expect(refuse(after, limits, decision.remaining + 1, now)?.outcome).toBe('rate_limited');
          }
        }
      }),
    );
  });

  test('a refused call is admitted after retryAfterMs when there is no other call', () => {
    fc.assert(
      fc.property(limits, calls, (limits, calls) => {
        let state: LimitState = EMPTY_STATE;
        let nowMs = NOON;
        const smallest = Math.min(...limits.map(({ max }) => max));
        for (const { afterMs, skewMs, cost } of calls) {
          nowMs += afterMs;
          const { decision, state: after } = charge(state, limits, cost, nowMs + skewMs);
          state = after;
          if (decision.outcome !== 'rate_limited' || cost > smallest) continue;
          const waitMs = decision.retryAfterMs ?? 0;
          // Where the window is that of a faster clock, a caller that waits for one window is sent away once more.
          const isWhole = nowMs + skewMs + waitMs === decision.resetAtMs;
          expect(isWhole || limits.some(({ windowMs }) => windowMs === waitMs)).toBe(true);
          let untilMs = decision.resetAtMs;
          if (isWhole) expect(charge(state, limits, cost, untilMs - 1).decision.outcome).toBe('rate_limited');
          // The next window may be one that a faster clock has used up; there are few of those.
          for (let waits = 0; waits < 4 && refuse(state, limits, cost, untilMs) !== undefined; waits++) {
            untilMs = refuse(state, limits, cost, untilMs)?.resetAtMs ?? untilMs;
          }
          expect(charge(state, limits, cost, untilMs).decision.outcome).toBe('admitted');
        }
      }),
    );
  });

  test('a batch of n is counted exactly as n single calls', () => {
    fc.assert(
      fc.property(limits, fc.integer({ min: 1, max: 12 }), (limits, cost) => {
        const batch = charge(EMPTY_STATE, limits, cost, NOON);
        let singles: LimitState = EMPTY_STATE;
        let admitted = 0;
        for (let call = 0; call < cost; call++) {
          const single = charge(singles, limits, 1, NOON);
          singles = single.state;
          if (single.decision.outcome === 'admitted') admitted++;
        }
        expect(batch.decision.outcome === 'admitted').toBe(admitted === cost);
        if (admitted === cost) expect(batch.state).toEqual(singles);
      }),
    );
  });

  test('a cost above a limit is refused even when nothing is used', () => {
    expect(charge(EMPTY_STATE, LIMITS, 4, NOON).decision).toMatchObject({
      outcome: 'rate_limited',
      limit: 3,
      remaining: 3,
    });
  });

  test('the headers show the window that refuses longest, else the one with the fewest calls left', () => {
    const minuteFull = charge(EMPTY_STATE, LIMITS, 3, NOON);
    expect(minuteFull.decision).toMatchObject({
      outcome: 'admitted',
      limit: 3,
      remaining: 0,
      resetAtMs: NOON + MINUTE,
    });
    const hourFull = charge(minuteFull.state, LIMITS, 2, NOON + MINUTE);
    expect(hourFull.decision).toMatchObject({ limit: 5, remaining: 0, resetAtMs: NOON + HOUR });
    const both = refuse(
      charge(EMPTY_STATE, [LIMITS[0] ?? { max: 0, windowMs: 1 }, { max: 3, windowMs: HOUR }], 3, NOON).state,
      LIMITS,
      3,
      NOON,
    );
    expect(both).toMatchObject({ outcome: 'rate_limited', limit: 5, remaining: 2, resetAtMs: NOON + HOUR });
  });

  test('a later window of the document is used instead of being moved back', () => {
    const ahead = charge(EMPTY_STATE, LIMITS, 3, NOON + 1_000).state;
    const behind = charge(ahead, LIMITS, 1, NOON - 29_000);
    expect(behind.decision).toMatchObject({ outcome: 'rate_limited', resetAtMs: NOON + MINUTE, retryAfterMs: MINUTE });
    expect(behind.state).toBe(ahead);
  });

  test('a raised limit admits, a lowered one refuses, and a removed window is kept until it ends', () => {
    const used = charge(EMPTY_STATE, LIMITS, 3, NOON).state;
    expect(charge(used, [{ max: 4, windowMs: MINUTE }], 1, NOON).decision.outcome).toBe('admitted');
    expect(charge(used, [{ max: 2, windowMs: MINUTE }], 1, NOON).decision).toMatchObject({
      outcome: 'rate_limited',
      remaining: 0,
    });
    const other = charge(used, [{ max: 9, windowMs: 1_000 }], 2, NOON + MINUTE).state;
    expect(other.windows).toEqual([
      { window_ms: 1_000, start_ms: NOON + MINUTE, count: 2 },
      { window_ms: HOUR, start_ms: NOON, count: 5 },
    ]);
    expect(charge(other, LIMITS, 1, NOON + MINUTE).decision).toMatchObject({ outcome: 'rate_limited', limit: 5 });
    expect(endOf(other)).toBe(NOON + HOUR);
  });

  test('a free call is admitted when nothing is left, and changes nothing', () => {
    const [{ max, windowMs }] = LIMITS as [{ max: number; windowMs: number }];
    const full = { windows: [{ window_ms: windowMs, start_ms: NOON, count: max }], revoked: false };
    const { decision, state } = charge(full, LIMITS, 0, NOON);
    expect(decision).toMatchObject({ outcome: 'admitted', limit: max, remaining: 0 });
    expect(state).toBe(full);
    expect(charge({ windows: [], revoked: true }, LIMITS, 0, NOON).decision.outcome).toBe('revoked');
  });

  test('a revoked key is refused without being charged', () => {
    const revoked = { windows: [], revoked: true };
    const { decision, state } = charge(revoked, LIMITS, 1, NOON);
    expect(decision).toMatchObject({ outcome: 'revoked', remaining: 0 });
    expect(state).toBe(revoked);
  });

  test.each([-1, 1.5, Number.NaN])('a cost of %s throws', (cost) => {
    expect(() => charge(EMPTY_STATE, LIMITS, cost, NOON)).toThrow(RangeError);
  });
});
