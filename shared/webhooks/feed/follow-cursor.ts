// The position of a reader of events: a time, and the events after it that the reader has received. Events are not
// committed in the order of their times. A time alone would lose late events; a time minus a margin would repeat
// events.
import { z } from 'zod';
import { decodeCursor } from '../../store/cursor.ts';
import { OVERLAP_MS } from './known-events.ts';

/** Most received events in a position. If more arrive within the overlap, the time of the position moves forward. */
const DELIVERED_MAX = 4_096;
/**
 * Most received events in a cursor. If more arrive within the overlap, a reader that continues at the cursor may miss a
 * late event.
 */
const NAMED_MAX = 128;
/** Characters of an event's id in a cursor: 36 bits of its hash. */
const NAME_CHARS = 6;
/** Maximum tolerated clock skew between instances. */
const AHEAD_MS_MAX = 5 * 60_000;
/** Characters of the longest cursor. */
export const CURSOR_CHARS_MAX = 800;

const LIVE = /^live\.([0-9a-z]{1,9})\.((?:[\w-]{6})*)$/;
/** `next_cursor` of `events.list` with `order: oldest`: the position after that page. */
const Listed = z.tuple([z.literal('oldest'), z.number(), z.string().max(128)]);

export interface Position {
  /** Events that arrived earlier are not delivered, epoch milliseconds. */
  readonly floorMs: number;
  /** Whether the reader has not received this event yet. */
  isNew(id: string, receivedAtMs: number): boolean;
  /** Records that the reader has received this event. */
  deliver(id: string, receivedAtMs: number, nowMs: number): void;
  /** The position as text, from which a reader can continue later. */
  cursor(): string;
}

/** The position of a reader that receives only events that are not in `known` (id -> time of arrival). */
export function positionNow(known: ReadonlyMap<string, number>, nowMs: number): Position {
  const highMs = Math.max(0, ...known.values());
  const position = createPosition(Math.max(0, Math.min(highMs, nowMs) - OVERLAP_MS), new Set());
  for (const [id, atMs] of known) if (atMs >= position.floorMs) position.deliver(id, atMs, nowMs);
  return position;
}

/** The position after one event. If a wrong clock has recorded the event far ahead: new events only. */
export function positionAfter(event: { readonly value: number; readonly id: string }, nowMs: number): Position {
  if (event.value > nowMs + AHEAD_MS_MAX)
    return createPosition(startOf(event.value, nowMs), new Set([nameOf(event.id)]));
  return createPosition(event.value, new Set(), event);
}

/** Decodes a cursor. Throws RpcError `invalid_params` for an invalid one. */
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

/** A start far ahead was written by a wrong clock: until that time no event would be delivered. */
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
  /** The last received events in order of delivery, and the latest time of the earlier ones. */
  const recent: { readonly name: string; atMs: number }[] = [];
  let forgottenMs = -1;
  // Their times of arrival are set when the replay, which starts at the floor, reads them.
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

/** The time of an event from an earlier cursor is unknown; removing it must not move the floor. */
function finite(atMs: number | undefined): number {
  return atMs !== undefined && Number.isFinite(atMs) ? atMs : -1;
}
