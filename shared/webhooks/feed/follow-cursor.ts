// Where a reader of events stands: a time before which it wants nothing more, and what it has had since. Events are not
// committed in the order of their times, so that a time alone would lose those that were late, and a time minus a
// margin would repeat the others.
import { z } from 'zod';
import { decodeCursor } from '../../store/cursor.ts';
import { OVERLAP_MS } from './follow-session.ts';

/**
 * Events a reader remembers one by one; in a burst of more within the overlap, the time before which nothing more is
 * wanted moves up.
 */
const DELIVERED_MAX = 4_096;
/**
 * Of those, events named in a cursor: a burst of more within the overlap loses a late one to a reader that comes back.
 */
const NAMED_MAX = 128;
/** Characters of an event's id that name it: 36 bits of its hash. */
const NAME_CHARS = 6;
/** Further ahead than clocks that are fairly right differ. */
const AHEAD_MS_MAX = 5 * 60_000;
/** Characters of the longest cursor. */
export const CURSOR_CHARS_MAX = 800;

const LIVE = /^live\.([0-9a-z]{1,9})\.((?:[\w-]{6})*)$/;
/** `next_cursor` of `events.list` with `order: oldest`: what follows that page. */
const Listed = z.tuple([z.literal('oldest'), z.number(), z.string().max(128)]);

export interface Position {
  /** No event that arrived earlier is wanted, epoch milliseconds. */
  readonly floorMs: number;
  /** Whether the reader has not had this event yet. */
  isNew(id: string, receivedAtMs: number): boolean;
  /** The reader has had this event. */
  deliver(id: string, receivedAtMs: number, nowMs: number): void;
  /** The position as text, for a reader that comes back. */
  cursor(): string;
}

/** The position of a reader that gets only what is not in `known` (ids and times). */
export function positionNow(known: ReadonlyMap<string, number>, nowMs: number): Position {
  const highMs = Math.max(0, ...known.values());
  const position = createPosition(Math.max(0, Math.min(highMs, nowMs) - OVERLAP_MS), new Set());
  for (const [id, atMs] of known) if (atMs >= position.floorMs) position.deliver(id, atMs, nowMs);
  return position;
}

/** Right after one event. After one that a wrong clock has recorded far ahead: from now on, without that event. */
export function positionAfter(event: { readonly value: number; readonly id: string }, nowMs: number): Position {
  if (event.value > nowMs + AHEAD_MS_MAX)
    return createPosition(startOf(event.value, nowMs), new Set([nameOf(event.id)]));
  return createPosition(event.value, new Set(), event);
}

/** Throws RpcError `invalid_params` for what is no cursor of events. */
export function positionAt(cursor: string, nowMs: number): Position {
  const live = LIVE.exec(cursor);
  if (live !== null) {
    const names = live[2]?.match(/.{6}/g) ?? [];
    return createPosition(startOf(Number.parseInt(live[1] ?? '0', 36), nowMs), new Set(names));
  }
  const message = 'not a cursor of events.subscribe or of events.list, oldest first';
  const [, value, id] = decodeCursor(cursor, Listed, 'after', message);
  return positionAfter({ value, id }, nowMs);
}

/** A start that lies far ahead was written by a wrong clock: nothing would be new for as long. */
function startOf(startMs: number, nowMs: number): number {
  return startMs > nowMs + AHEAD_MS_MAX ? nowMs - OVERLAP_MS : startMs;
}

function createPosition(
  startMs: number,
  named: ReadonlySet<string>,
  start?: { readonly value: number; readonly id: string },
): Position {
  let floorMs = startMs;
  let highMs = startMs;
  const delivered = new Map<string, number>();
  /** The last ones in order of delivery, and the latest time among those before them. */
  const recent: { readonly name: string; atMs: number }[] = [];
  let forgottenMs = -1;
  // When they arrived is learned when the replay, which begins at the floor, comes across them.
  for (const name of named) recent.push({ name, atMs: Number.POSITIVE_INFINITY });

  return {
    get floorMs() {
      return floorMs;
    },
    isNew(id, atMs) {
      if (atMs < floorMs || delivered.has(id)) return false;
      const name = nameOf(id);
      if (named.has(name)) {
        for (const entry of recent) if (entry.name === name) entry.atMs = atMs;
        return false;
      }
      return start === undefined || atMs > start.value || (atMs === start.value && id > start.id);
    },
    deliver(id, atMs, nowMs) {
      delivered.set(id, atMs);
      recent.push({ name: nameOf(id), atMs });
      if (recent.length > NAMED_MAX) forgottenMs = Math.max(forgottenMs, finite(recent.shift()?.atMs));
      highMs = Math.max(highMs, atMs);
      floorMs = Math.max(floorMs, Math.min(highMs, nowMs) - OVERLAP_MS);
      for (const [old, oldMs] of delivered) {
        if (oldMs >= floorMs && delivered.size <= DELIVERED_MAX) break;
        delivered.delete(old);
        if (oldMs >= floorMs) floorMs = oldMs + 1;
      }
    },
    cursor() {
      const fromMs = Math.max(floorMs, forgottenMs + 1);
      const names = recent.filter(({ atMs }) => atMs >= fromMs).map(({ name }) => name);
      return `live.${fromMs.toString(36)}.${names.join('')}`;
    },
  };
}

/** Ids are `evt_` and a hash in base64url. */
function nameOf(id: string): string {
  return id.slice(4, 4 + NAME_CHARS).padEnd(NAME_CHARS, '-');
}

/** The time of an event that an earlier cursor named is not known; forgetting it must not move the floor. */
function finite(atMs: number | undefined): number {
  return atMs !== undefined && Number.isFinite(atMs) ? atMs : -1;
}
