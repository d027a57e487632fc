// What every live reader of webhook events on this instance shares: one watch of the newest events, sent on as a
// numbered feed. An event is sent once, when it is first seen. Holds the last few events; who needs older ones reads
// the store (follow-events.ts).
import type { Clock } from '../../clock.ts';
import { errorFields, type Logger } from '../../log.ts';
import type { Snapshot, Store } from '../../store/store.ts';
import { type EventDocument, Events } from '../documents.ts';

/**
 * Events carry the time of their arrival at some instance, and are committed later, in another order: by at most the
 * deadlines of the recording commit and the difference of two clocks. A reader that has received an event may still
 * get one that is this much older.
 */
export const OVERLAP_MS = 15_000;
/** Newest events under watch. As many that come at once are read from the store instead, so none falls out unseen. */
const WINDOW = 20;
/**
 * While more than a window came within the overlap, a late one may be outside of the window: look for it this often.
 */
const SWEEP_MS = 2_000;
/** Events read at a time, at first; then as many as have about PAGE_CHARS: a slow reader holds what it has read. */
const PAGE_FIRST = 4;
const PAGE_MAX = 20;
const PAGE_CHARS = 512 << 10;
const RING_MAX = 256;
const RING_CHARS_MAX = 4 << 20;
const KNOWN_MAX = 8_192;
const REWATCH_MS = 1_000;
const REWATCH_MAX_MS = 30_000;

export interface FeedEntry {
  readonly id: string;
  readonly document: EventDocument;
}

export interface Feed {
  /**
   * Joins: resolves, with the function that leaves, once everything stored so far is known as old. Throws the store's
   * error.
   */
  join(): Promise<() => void>;
  /** Number of the entry that comes next. */
  readonly next: number;
  /** Entry `n`: undefined when it has not come yet, `gone` when it is not kept any more. */
  at(n: number): FeedEntry | 'gone' | undefined;
  /** Resolves when there is another entry. */
  changed(): Promise<void>;
  /** Ids and times of arrival within the overlap. */
  known(): ReadonlyMap<string, number>;
}

/** One per store. It watches only while a reader has joined. */
export function createFeed(store: Store, clock: Clock, log: Logger): Feed {
  let users = 0;
  let session: Session | undefined;
  let next = 0;
  const ring: FeedEntry[] = [];
  let ringChars = 0;
  let change = Promise.withResolvers<void>();

  function emit(entry: FeedEntry): void {
    ring.push(entry);
    ringChars += entry.document.body.length;
    next++;
    while (ring.length > 1 && (ring.length > RING_MAX || ringChars > RING_CHARS_MAX)) {
      ringChars -= ring.shift()?.document.body.length ?? 0;
    }
    change.resolve();
    change = Promise.withResolvers();
  }

  return {
    get next() {
      return next;
    },
    async join() {
      users++;
      session ??= openSession(store, clock, log, emit);
      const mine = session;
      let left = false;
      const leave = (): void => {
        if (left) return;
        left = true;
        if (--users > 0) return;
        mine.close();
        session = undefined;
        ring.length = 0;
        ringChars = 0;
      };
      try {
        await mine.ready;
      } catch (error) {
        leave();
        throw error;
      }
      return leave;
    },
    at(n) {
      if (n >= next) return undefined;
      return ring[ring.length - (next - n)] ?? 'gone';
    },
    changed: () => change.promise,
    known: () => session?.known ?? new Map(),
  };
}

interface Session {
  readonly ready: Promise<void>;
  readonly known: ReadonlyMap<string, number>;
  close(): void;
}

/** From the first reader to the last: the watch and what it has seen. */
function openSession(store: Store, clock: Clock, log: Logger, emit: (entry: FeedEntry) => void): Session {
  const known = new Map<string, number>();
  const ready = Promise.withResolvers<void>();
  let started = false;
  let open = true;
  let highMs = 0;
  /** A sweep that could not be done: it is retried even without new events. */
  let owed = false;
  let feeding: Promise<void> = Promise.resolve();
  let unwatch: (() => void) | undefined;
  let rewatchMs = REWATCH_MS;
  let sweepTimer: NodeJS.Timeout | undefined;
  let rewatchTimer: NodeJS.Timeout | undefined;

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

  /** Reads all of the overlap. What is older than it has been seen, or is not new. */
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

  function watch(): void {
    const query = Events.query({ orderBy: 'received_at_ms', direction: 'desc', limit: WINDOW });
    unwatch = store.watchQuery(
      query,
      (snapshots) => {
        rewatchMs = REWATCH_MS;
        enqueue(() => take(snapshots));
      },
      (error) => {
        log.warn('the watch of events failed, watching again', errorFields(error));
        ready.reject(error);
        unwatch?.();
        if (!open || rewatchTimer !== undefined) return;
        rewatchTimer = setTimeout(() => {
          rewatchTimer = undefined;
          watch();
        }, rewatchMs);
        rewatchMs = Math.min(rewatchMs * 2, REWATCH_MAX_MS);
      },
    );
  }

  // The readers that joined handle it; a failure after that is only logged.
  ready.promise.catch(() => {});
  watch();
  return {
    ready: ready.promise,
    known,
    close() {
      open = false;
      unwatch?.();
      clearTimeout(sweepTimer);
      clearTimeout(rewatchTimer);
    },
  };
}

/** Stored events by arrival, page by page, strictly after a position. */
export async function* readEvents(
  store: Store,
  start: { readonly value: number; readonly id: string },
  event: string | undefined,
): AsyncGenerator<FeedEntry, void, void> {
  let after = start;
  let limit = PAGE_FIRST;
  for (;;) {
    const where = event === undefined ? {} : { where: { event } };
    const found = await store.query(Events.query({ orderBy: 'received_at_ms', limit, after, ...where }));
    const isLast = found.length < limit;
    const count = found.length;
    let chars = 0;
    // Taken out one by one: what has been sent is not held until the rest is.
    for (let first = found.shift(); first !== undefined; first = found.shift()) {
      const document = Events.read(first);
      if (document === undefined) continue;
      chars += document.body.length;
      after = { value: document.received_at_ms, id: first.ref.id };
      yield { id: first.ref.id, document };
    }
    if (isLast) return;
    limit = Math.max(1, Math.min(PAGE_MAX, Math.floor((PAGE_CHARS * count) / Math.max(1, chars))));
  }
}
