// The watch of the feed of live events, from its first reader to its last. It emits each new event once, also an event
// that is committed late, or one of a burst with more events than the watch contains.
import type { Clock } from '../../clock.ts';
import { errorFields, type Logger } from '../../log.ts';
import type { Snapshot, Store } from '../../store/store.ts';
import { type EventDocument, Events } from '../documents.ts';
import { type FeedEntry, readEvents } from './read-events.ts';

/**
 * An event has the time of its arrival at an instance, and is committed later, maybe in another order. The delay is at
 * most the deadline of the recording commit plus the skew of two clocks. A reader may receive an event that is up to
 * this much older than one it has received.
 */
export const OVERLAP_MS = 15_000;
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
const KNOWN_MAX = 8_192;
const REWATCH_MS = 1_000;
const REWATCH_MAX_MS = 30_000;

export interface Session {
  readonly ready: Promise<void>;
  readonly known: ReadonlyMap<string, number>;
  close(): void;
}

/** Opens the watch at the first reader; it is closed after the last one. */
export function openSession(store: Store, clock: Clock, log: Logger, emit: (entry: FeedEntry) => void): Session {
  const known = new Map<string, number>();
  const ready = Promise.withResolvers<void>();
  let started = false;
  let open = true;
  let highMs = 0;
  /** True after a failed sweep, which is retried also without new events. */
  let owed = false;
  let feeding: Promise<void> = Promise.resolve();
  let sweepTimer: NodeJS.Timeout | undefined;

  const floorMs = (): number => Math.max(0, Math.min(highMs, clock.now()) - OVERLAP_MS);

  function see(id: string, document: EventDocument): void {
    if (known.has(id)) return;
    known.set(id, document.received_at_ms);
    highMs = Math.max(highMs, document.received_at_ms);
    if (known.size > KNOWN_MAX) prune();
    if (started && open) emit({ id, document });
  }

  function prune(): void {
    for (const [id, atMs] of known) if (atMs < floorMs()) known.delete(id);
    for (const id of known.keys()) {
      if (known.size <= KNOWN_MAX / 2) break;
      known.delete(id);
    }
  }

  /** Reads all events of the overlap. Older events were emitted already, or are not new. */
  async function sweep(): Promise<void> {
    owed = true;
    const start = { value: floorMs() - 1, id: '-' };
    for await (const entry of readEvents(store, start, undefined)) {
      if (!open) return;
      see(entry.id, entry.document);
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
    const isGap = isFull && window.every(({ id }) => !known.has(id));
    if (started && isGap) await sweep();
    for (const { id, document } of window.reverse()) see(id, document);
    if (!started) {
      if (isFull && oldestMs >= floorMs()) await sweep();
      started = true;
      ready.resolve();
    }
    if (isFull && oldestMs >= floorMs()) planSweep();
  }

  function planSweep(): void {
    if (sweepTimer !== undefined || !open) return;
    sweepTimer = setTimeout(() => {
      sweepTimer = undefined;
      enqueue(async () => {
        await sweep();
        if (clock.now() < highMs + OVERLAP_MS) planSweep();
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
    known,
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
