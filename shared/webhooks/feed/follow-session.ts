// The watch of the feed of live events, from its first reader to its last. It emits each new event once, also an event
// that is committed late, or one of a burst with more events than the watch contains.
import type { Clock } from '../../clock.ts';
import { errorFields, type Logger } from '../../log.ts';
import type { Snapshot, Store } from '../../store/store.ts';
import { Events } from '../documents.ts';
import { createKnownEvents } from './known-events.ts';
import { type FeedEntry, readEvents } from './read-events.ts';

/**
 * Number of newest events in the watch. If that many are new at once, they are read from the store, so that none is
 * missed.
 */
const WINDOW = 20;
/**
 * While more than WINDOW events are within the overlap, a late one may be outside the watch, so the store is read at
 * this interval.
 */
const SWEEP_MS = 2_000;
const REWATCH_MS = 1_000;
const REWATCH_MAX_MS = 30_000;

export interface Session {
  readonly ready: Promise<void>;
  readonly known: ReadonlyMap<string, number>;
  close(): void;
}

/** Opens the watch at the first reader; it is closed after the last one. */
export function openSession(store: Store, clock: Clock, log: Logger, emit: (entry: FeedEntry) => void): Session {
  const known = createKnownEvents(clock);
  const ready = Promise.withResolvers<void>();
  let started = false;
  let open = true;
  /** True after a failed sweep, which is retried also without new events. */
  let owed = false;
  let feeding: Promise<void> = Promise.resolve();
  let sweepTimer: NodeJS.Timeout | undefined;

  function see({ id, document }: FeedEntry): void {
    const isNew = known.add(id, document.received_at_ms);
    if (isNew && started && open) emit({ id, document });
  }

  /** Reads all events of the overlap. */
  async function sweep(): Promise<void> {
    owed = true;
    const start = { value: known.floorMs() - 1, id: '-' };
    for await (const entry of readEvents(store, start, undefined)) {
      if (!open) return;
      see(entry);
    }
    owed = false;
  }

  async function take(snapshots: readonly Snapshot[]): Promise<void> {
    if (!open) return;
    const window = snapshots.flatMap((snapshot) => {
      const document = Events.read(snapshot);
      return document === undefined ? [] : [{ id: snapshot.ref.id, document }];
    });
    const oldestMs = window.at(-1)?.document.received_at_ms ?? 0;
    const isFull = window.length === WINDOW;
    const isGap = isFull && window.every(({ id }) => !known.times.has(id));
    if (started && isGap) await sweep();
    for (const entry of window.reverse()) see(entry);
    if (!started) {
      if (isFull && oldestMs >= known.floorMs()) await sweep();
      started = true;
      ready.resolve();
    }
    if (isFull && oldestMs >= known.floorMs()) planSweep();
  }

  function planSweep(): void {
    if (sweepTimer !== undefined || !open) return;
    sweepTimer = setTimeout(() => {
      sweepTimer = undefined;
      enqueue(async () => {
        await sweep();
        if (known.isOverlapOpen()) planSweep();
      });
    }, SWEEP_MS);
  }

  function enqueue(work: () => Promise<void>): void {
    feeding = feeding.then(work).catch((error: unknown) => {
      if (!open) return;
      log.warn('live events could not be read, trying again', errorFields(error));
      ready.reject(error);
      if (owed) planSweep();
    });
  }

  // The readers that have joined handle the rejection; later failures are only logged.
  ready.promise.catch(() => {});
  const unwatch = watchNewest(
    store,
    (snapshots) => enqueue(() => take(snapshots)),
    (error) => {
      log.warn('the watch of events failed, watching again', errorFields(error));
      ready.reject(error);
    },
  );
  return {
    ready: ready.promise,
    known: known.times,
    close() {
      open = false;
      unwatch();
      clearTimeout(sweepTimer);
    },
  };
}

/** Watches the newest events, again after each failure, until the returned function is called. */
function watchNewest(
  store: Store,
  onNewest: (snapshots: readonly Snapshot[]) => void,
  onFailure: (error: unknown) => void,
): () => void {
  const query = Events.query({ orderBy: 'received_at_ms', direction: 'desc', limit: WINDOW });
  let isOpen = true;
  let unwatch: (() => void) | undefined;
  let rewatchMs = REWATCH_MS;
  let timer: NodeJS.Timeout | undefined;

  function watch(): void {
    unwatch = store.watchQuery(
      query,
      (snapshots) => {
        rewatchMs = REWATCH_MS;
        onNewest(snapshots);
      },
      (error) => {
        onFailure(error);
        unwatch?.();
        if (!isOpen || timer !== undefined) return;
        timer = setTimeout(() => {
          timer = undefined;
          watch();
        }, rewatchMs);
        rewatchMs = Math.min(rewatchMs * 2, REWATCH_MAX_MS);
      },
    );
  }

  watch();
  return () => {
    isOpen = false;
    unwatch?.();
    clearTimeout(timer);
  };
}
