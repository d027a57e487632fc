// The feed of live webhook events, shared by all readers on this instance: one watch of the newest events, published as
// numbered entries. Each event is published once. The feed keeps the last few events; readers get older ones from the
// store (follow-events.ts).
import type { Clock } from '../../clock.ts';
import type { Logger } from '../../log.ts';
import type { Store } from '../../store/store.ts';
import { openSession, type Session } from './follow-session.ts';
import type { FeedEntry } from './read-events.ts';

const RING_MAX = 256;
const RING_CHARS_MAX = 4 << 20;

export interface Feed {
  /**
   * Joins the feed. Resolves, with the function that leaves, when all stored events are known, so that only later ones
   * are published. Throws the store's error.
   */
  join(): Promise<() => void>;
  /** Number of the next entry. */
  readonly next: number;
  /** Entry `n`; undefined if it does not exist yet, `gone` if it is no longer kept. */
  at(n: number): FeedEntry | 'gone' | undefined;
  /** Resolves when there is another entry. */
  changed(): Promise<void>;
  /** Ids and times of arrival within the overlap. */
  known(): ReadonlyMap<string, number>;
}

/** Creates the feed of a store. It watches only while a reader has joined. */
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
