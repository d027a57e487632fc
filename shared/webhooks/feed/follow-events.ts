// One reader of webhook events: replays the events after its cursor, then follows live, each event once. It requests
// the next event when it has processed the previous one. A slow reader does not delay others: it reads the events that
// it has missed from the store.
import { setTimeout as sleep } from 'node:timers/promises';
import { orAbort } from '../../async.ts';
import type { Clock } from '../../clock.ts';
import { errorFields, type Logger } from '../../log.ts';
import type { Store } from '../../store/store.ts';
import { resolveEventCursor } from '../documents.ts';
import { type Position, positionAfter, positionAt, positionNow } from './follow-cursor.ts';
import { createFeed, type Feed } from './follow-feed.ts';
import { type FeedEntry, readEvents } from './read-events.ts';

const RETRY_MS = 1_000;

export interface FollowOptions {
  /** Only events of this name. */
  readonly event?: string | undefined;
  /**
   * Cursor of an earlier reader or of `events.list` with order oldest, or the id of an event; undefined: new events
   * only.
   */
  readonly after?: string | undefined;
}

export interface FollowedEvent extends FeedEntry {
  /** Position of the reader after this event. */
  readonly cursor: string;
}

export interface Follower {
  /** Position of the reader before its first event. */
  readonly cursor: string;
  /** Call once. Ends when `signal` aborts, and leaves the feed. */
  read(signal: AbortSignal): AsyncGenerator<FollowedEvent, void, void>;
}

type FeedDeps = { readonly store: Store; readonly clock: Clock; readonly log: Logger };

/** One feed per store and process, shared by all readers. */
const feeds = new WeakMap<Store, Feed>();

function feedOf({ store, clock, log }: FeedDeps): Feed {
  const known = feeds.get(store);
  if (known !== undefined) return known;
  const made = createFeed(store, clock, log);
  feeds.set(store, made);
  return made;
}

async function resolve({ store, clock }: FeedDeps, after: string, signal: AbortSignal): Promise<Position> {
  const event = await resolveEventCursor(store, after, { signal });
  return event === undefined ? positionAt(after, clock.now()) : positionAfter(event, clock.now());
}

/**
 * Throws RpcError `invalid_params` for an invalid cursor, `unavailable` when the store cannot be reached. No event
 * after this call is missed. `read` must be called, because it leaves the feed at its end.
 */
export async function followEvents(deps: FeedDeps, options: FollowOptions, signal: AbortSignal): Promise<Follower> {
  const { store, clock, log } = deps;
  const feed = feedOf(deps);
  const given = options.after === undefined ? undefined : await resolve(deps, options.after, signal);
  const leave = await orLeave(feed.join(), signal);
  let next = feed.next;
  const position = given ?? positionNow(feed.known(), clock.now());
  let behind = given !== undefined;

  function accept({ id, document }: FeedEntry): FollowedEvent | undefined {
    if (options.event !== undefined && document.event !== options.event) return undefined;
    if (!position.isNew(id, document.received_at_ms)) return undefined;
    position.deliver(id, document.received_at_ms, clock.now());
    return { id, document, cursor: position.cursor() };
  }

  /**
   * Yields the stored events that are new to this reader. The feed delivers the events that are committed meanwhile.
   */
  async function* replay(): AsyncGenerator<FollowedEvent, void, void> {
    const start = { value: position.floorMs - 1, id: '-' };
    for await (const entry of readEvents(store, start, options.event)) {
      const accepted = accept(entry);
      if (accepted !== undefined) yield accepted;
    }
  }

  return {
    cursor: position.cursor(),
    async *read(reading) {
      try {
        while (!reading.aborted) {
          if (behind) {
            behind = false;
            next = feed.next;
            try {
              for await (const event of replay()) {
                yield event;
                if (reading.aborted) return;
              }
            } catch (error) {
              behind = true;
              log.warn('events could not be replayed, trying again', errorFields(error));
              await sleep(RETRY_MS, undefined, { signal: reading }).catch(() => {});
            }
            continue;
          }
          const entry = feed.at(next);
          if (entry === 'gone') behind = true;
          else if (entry === undefined) await orAbort(feed.changed(), reading).catch(() => {});
          else {
            next++;
            const accepted = accept(entry);
            if (accepted !== undefined) yield accepted;
          }
        }
      } finally {
        leave();
      }
    },
  };
}

/** Leaves the feed also if the signal aborts while the reader joins. */
function orLeave(joining: Promise<() => void>, signal: AbortSignal): Promise<() => void> {
  return orAbort(joining, signal).catch((error: unknown) => {
    joining.then((leave) => leave()).catch(() => {});
    throw error;
  });
}
