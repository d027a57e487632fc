// Knows the key's rate windows: reads them from auth.limits, corrects them by the headers of responses, and counts them
// down at each call.
import type { Fetch } from '../../../shared/client/transport/http.ts';
import { HEADERS } from '../../../shared/protocol.ts';
import { createValue, type Value } from '../view.ts';

export interface RateWindow {
  readonly seconds: number;
  readonly limit: number;
  readonly remaining: number;
  /** Epoch milliseconds. */
  readonly resetMs: number;
}

export interface Limits {
  readonly windows: Value<readonly RateWindow[]>;
  /** Epoch milliseconds until which the gateway refuses calls; 0 when it does not. */
  readonly blockedUntilMs: Value<number>;
  replace(windows: readonly RateWindow[]): void;
  /** One call that costs one was sent. */
  spend(): void;
  /** The headers of one response, which are those of the tightest window. */
  observe(limit: number, remaining: number, resetMs: number): void;
  block(untilMs: number): void;
}

export function createLimits(): Limits {
  const windows = createValue<readonly RateWindow[]>([]);
  const blockedUntilMs = createValue(0);
  return {
    windows,
    blockedUntilMs,
    replace: (next) => windows.set(next),
    spend() {
      const nowMs = Date.now();
      const rolled = windows.current.map((window) => roll(window, nowMs));
      windows.set(rolled.map((window) => ({ ...window, remaining: Math.max(0, window.remaining - 1) })));
    },
    observe(limit, remaining, resetMs) {
      const known = windows.current.find((window) => window.limit === limit);
      if (known === undefined) return;
      windows.set(windows.current.map((window) => (window === known ? { ...window, remaining, resetMs } : window)));
    },
    block: (untilMs) => blockedUntilMs.set(untilMs),
  };
}

/** fetch, with every call and every answer of it counted. */
export function limitedFetch(limits: Limits): Fetch {
  return async (url, init) => {
    limits.spend();
    const response = await fetch(url, { ...init, cache: 'no-store', credentials: 'omit' });
    const names = [HEADERS.rateLimit, HEADERS.rateRemaining, HEADERS.rateReset];
    const [limit, remaining, reset] = names.map((name) => response.headers.get(name));
    if (limit && remaining && reset) limits.observe(Number(limit), Number(remaining), Number(reset) * 1_000);
    return response;
  };
}

/** Replaces a window that has ended by the next one, with all calls left. */
export function roll(window: RateWindow, nowMs: number): RateWindow {
  if (nowMs < window.resetMs) return window;
  const lengthMs = window.seconds * 1_000;
  const resetMs = window.resetMs + lengthMs * (Math.floor((nowMs - window.resetMs) / lengthMs) + 1);
  return { ...window, remaining: window.limit, resetMs };
}

/** `minute`, `hour`, `day`, or its length. */
export function nameOf({ seconds }: RateWindow): string {
  return { 1: 'second', 60: 'minute', 3600: 'hour', 86400: 'day' }[seconds] ?? `${seconds} s`;
}
