// Ends a terminal that is not used: a fixed time after its last watcher left (`unwatchedMs`), or a fixed time without
// input or output (`idleMs`).
import type { Terminal } from './terminal.ts';

export interface Lifetime {
  /**
   * Call it when a watcher has joined or left: stops the unwatched timer while there are watchers, else starts it.
   * `leftAgoMs`: how long ago the watcher actually left, when that was noticed late. The timer counts from the latest
   * departure.
   */
  watchersChanged(leftAgoMs?: number): void;
  /** Call it for input and resizing: restarts the unwatched timer if it is running. */
  restartUnwatchedTimer(): void;
  /** Call it when the terminal ends: clears both timers. */
  stop(): void;
}

export interface LifetimeOptions {
  readonly unwatchedMs: number;
  readonly idleMs: number;
  /** Called when one of the two times is over. */
  readonly end: () => void;
}

export function createLifetime(terminal: Terminal, { unwatchedMs, idleMs, end }: LifetimeOptions): Lifetime {
  let unwatched: NodeJS.Timeout | undefined;
  let idle: NodeJS.Timeout | undefined;
  let leftAtMs = Number.NEGATIVE_INFINITY;
  let isStopped = false;

  const watchersChanged = (leftAgoMs = 0): void => {
    clearTimeout(unwatched);
    unwatched = undefined;
    const nowMs = performance.now();
    leftAtMs = Math.max(leftAtMs, nowMs - leftAgoMs);
    if (!isStopped && terminal.watchers === 0) unwatched = setTimeout(end, leftAtMs + unwatchedMs - nowMs).unref();
  };

  const watchIdle = (waitMs: number): void => {
    idle = setTimeout(() => {
      const restMs = idleMs - (performance.now() - terminal.activeMs);
      if (restMs <= 0) end();
      else watchIdle(restMs);
    }, waitMs).unref();
  };

  watchersChanged();
  watchIdle(idleMs);
  return {
    watchersChanged,
    restartUnwatchedTimer() {
      if (unwatched !== undefined) watchersChanged();
    },
    stop() {
      isStopped = true;
      clearTimeout(unwatched);
      clearTimeout(idle);
    },
  };
}
