// When a terminal ends that no caller uses: some time after its last watcher has left, or without input or output.
import type { Terminal } from './terminal.ts';

export interface Lifetime {
  /**
   * Starts the time that the terminal may run without watchers, or stops it. `leftAgoMs`: the last watcher has not been
   * there for so long already; the time starts with the latest of all that have left.
   */
  visit(leftAgoMs?: number): void;
  /** As `visit`, for input and resizing: restarts the time that is running, and starts none. */
  use(): void;
  /** The terminal ends now: no time runs any more. */
  stop(): void;
}

export interface LifetimeOptions {
  readonly leftMs: number;
  readonly idleMs: number;
  /** A time is over. */
  readonly end: () => void;
}

export function createLifetime(terminal: Terminal, { leftMs, idleMs, end }: LifetimeOptions): Lifetime {
  let left: NodeJS.Timeout | undefined;
  let idle: NodeJS.Timeout | undefined;
  let leftAtMs = Number.NEGATIVE_INFINITY;
  let isOver = false;

  const visit = (leftAgoMs = 0): void => {
    clearTimeout(left);
    left = undefined;
    const nowMs = performance.now();
    leftAtMs = Math.max(leftAtMs, nowMs - leftAgoMs);
    if (!isOver && terminal.watchers === 0) left = setTimeout(end, leftAtMs + leftMs - nowMs).unref();
  };

  const watchIdle = (waitMs: number): void => {
    idle = setTimeout(() => {
      const restMs = idleMs - (performance.now() - terminal.activeMs);
      if (restMs <= 0) end();
      else watchIdle(restMs);
    }, waitMs).unref();
  };

  visit();
  watchIdle(idleMs);
  return {
    visit,
    use() {
      if (left !== undefined) visit();
    },
    stop() {
      isOver = true;
      clearTimeout(left);
      clearTimeout(idle);
    },
  };
}
