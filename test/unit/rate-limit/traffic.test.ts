// The limiter uses a cached document without reading it again only while other instances probably have not written it.
import { describe, expect, test } from 'vitest';
import type { LimitState } from '../../../shared/rate-limit/windows/limit-state.ts';
import { isProbablyCurrent, observe, type Traffic } from '../../../shared/rate-limit/windows/traffic.ts';

const NOON = Date.UTC(2026, 0, 1, 12);
const used = (count: number): LimitState => ({
  windows: [
    { window_ms: 60_000, start_ms: NOON, count },
    { window_ms: 3_600_000, start_ms: NOON, count },
  ],
  revoked: false,
});

/** Every second: `own` calls of this instance and `foreign` ones of others, as its transactions read them. */
function watchFor(seconds: number, foreign: number, traffic: Traffic = { calls: 0, elapsedMs: 0 }): Traffic {
  let left = used(0);
  let count = 0;
  for (let second = 1; second <= seconds; second++) {
    const found = used(count + foreign);
    observe(traffic, left, NOON + (second - 1) * 1_000, found, NOON + second * 1_000);
    count += foreign + 1;
    left = used(count);
  }
  return traffic;
}

describe('whether the version we left is probably still stored', () => {
  test('a cached document counts as current at any age while no other instance calls', () => {
    expect(isProbablyCurrent({ calls: 0, elapsedMs: 0 }, 86_400_000)).toBe(true);
    expect(isProbablyCurrent(watchFor(5, 0), 86_400_000)).toBe(true);
  });

  test('a cached document counts as current only for a part of the usual pause between writes of others', () => {
    const traffic = watchFor(20, 4);
    expect(isProbablyCurrent(traffic, 50)).toBe(true);
    expect(isProbablyCurrent(traffic, 250)).toBe(false);
  });

  test('a cached document counts as current again after others have stopped', () => {
    const traffic = watchFor(20, 4);
    expect(isProbablyCurrent(watchFor(20, 0, traffic), 60_000)).toBe(true);
  });

  test('a document that another instance created does not count as current until an observation shows no calls', () => {
    const traffic = { calls: 0, elapsedMs: 0 };
    observe(traffic, undefined, 0, used(30), NOON + 30_000);
    expect(isProbablyCurrent(traffic, 1)).toBe(false);
    expect(isProbablyCurrent(watchFor(15, 0, traffic), 60_000)).toBe(true);
  });
});
