// A terminal without watchers ends at its time, by a clock of the test.
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { createLifetime, type Lifetime } from '../../../shared/terminals/lifetime.ts';
import type { Terminal } from '../../../shared/terminals/terminal.ts';

let watchers: number;
let ended: boolean;
let lifetime: Lifetime;
beforeEach(() => {
  vi.useFakeTimers();
  watchers = 0;
  ended = false;
  const terminal = {
    get watchers() {
      return watchers;
    },
    activeMs: 0,
  } as Terminal;
  const end = (): void => {
    ended = true;
  };
  lifetime = createLifetime(terminal, { unwatchedMs: 60_000, idleMs: 3_600_000, end });
});
afterEach(() => {
  lifetime.stop();
  vi.useRealTimers();
});

function leave(agoMs?: number): void {
  watchers--;
  lifetime.watchersChanged(agoMs);
}

function come(count: number): void {
  watchers += count;
  lifetime.watchersChanged();
}

it('a terminal ends 60 s after its last watcher has left', () => {
  come(1);
  vi.advanceTimersByTime(100_000);
  leave();
  vi.advanceTimersByTime(59_999);
  expect(ended).toBe(false);
  vi.advanceTimersByTime(1);
  expect(ended).toBe(true);
});

it('the time counts from when the reader was last heard from, where its absence is noticed later', () => {
  come(1);
  vi.advanceTimersByTime(100_000);
  leave(35_000);
  vi.advanceTimersByTime(24_999);
  expect(ended).toBe(false);
  vi.advanceTimersByTime(1);
  expect(ended).toBe(true);
});

it('the time counts from the latest of all watchers that have left', () => {
  come(2);
  vi.advanceTimersByTime(100_000);
  leave();
  vi.advanceTimersByTime(10_000);
  leave(35_000);
  vi.advanceTimersByTime(49_999);
  expect(ended).toBe(false);
  vi.advanceTimersByTime(1);
  expect(ended).toBe(true);
});
