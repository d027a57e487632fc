// Decides when the tools of a server are listed again: immediately after an announced change, one list at a time, and
// with a pause between two lists, so that frequent announcements cause no load.

export interface Refresher {
  /** Call it when the tools have changed. */
  changed(): void;
  /** Resolves when every change announced so far has been listed, or its list has failed. */
  ready(): Promise<void>;
  stop(): void;
}

const PAUSE_MS = 1_000;

/** `refresh` may reject: the previous tools are kept. */
export function createRefresher(refresh: () => Promise<void>): Refresher {
  let running: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;
  let isStale = false;
  let isStopped = false;

  const start = (): Promise<void> => {
    clearTimeout(timer);
    timer = undefined;
    isStale = false;
    running = refresh()
      .catch(() => {})
      .finally(() => {
        running = undefined;
        if (isStale && !isStopped) timer = setTimeout(() => void start(), PAUSE_MS).unref();
      });
    return running;
  };

  return {
    changed() {
      isStale = true;
      if (running === undefined && timer === undefined && !isStopped) void start();
    },
    async ready() {
      await running;
      // A change was announced during the list. The caller needs the tools now, so it does not wait for the pause.
      if (isStale && !isStopped) await (running ?? start());
    },
    stop() {
      isStopped = true;
      clearTimeout(timer);
    },
  };
}
