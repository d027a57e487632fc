// One reader of webhook events: replays from where it stood, then follows live, each event once. It takes the next
// event when it has done with the one before: a slow reader delays no other, and falls back to reading the store.
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
  /** Cursor of an earlier reader, or of `events.list` oldest first, or the id of an event; undefined: from now on. */
  readonly after?: string | undefined;
}

export interface FollowedEvent extends FeedEntry {
  /** Position of the reader after this event. */
  readonly cursor: string;
}

export interface Follower {
  /** Position of the reader before its first event. */
  readonly cursor: string;
  /** Once; ends when `signal` aborts, and releases what the follower holds. */
  read(signal: AbortSignal): AsyncGenerator<FollowedEvent, void, void>;
}

type Parts = { readonly store: Store; readonly clock: Clock; readonly log: Logger };

/** One feed per store and process, for all its readers. */
const feeds = new WeakMap<Store, Feed>();

function feedOf({ store, clock, log }: Parts): Feed {
  const known = feeds.get(store);
  if (known !== undefined) return known;
  const made = createFeed(store, clock, log);
  feeds.set(store, made);
  return made;
}

async function resolve({ store, clock }: Parts, after: string, signal: AbortSignal): Promise<Position> {
  const event = await resolveEventCursor(store, after, { signal });
  return event === undefined ? positionAt(after, clock.now()) : positionAfter(event, clock.now());
}

/**
 * Throws RpcError `invalid_params` for a foreign cursor, `unavailable` when the store cannot be reached. From here on
 * no event is missed; `read` must be called, or the feed is held for nothing.
 */
export async function followEvents(parts: Parts, options: FollowOptions, signal: AbortSignal): Promise<Follower> {
  const { store, clock, log } = parts;
  const feed = feedOf(parts);
  const given = options.after === undefined ? undefined : await resolve(parts, options.after, signal);
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

  /** All that is stored and new to this reader. The feed delivers what is committed meanwhile. */
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

/** A reader that is closed while it joins still leaves. */
function orLeave(joining: Promise<() => void>, signal: AbortSignal): Promise<() => void> {
  return orAbort(joining, signal).catch((error: unknown) => {
    joining.then((leave) => leave()).catch(() => {});
    throw error;
  });
}
