// Writes the events of a running turn to the store, so that little is lost when this instance crashes, and other
// instances can follow it. Writes are billed and most turns have no reader elsewhere, so they are spaced out as the
// turn gets longer; for a reader on another instance the turn is written every second.
import { errorFields } from '../../../log.ts';
import { Conflict } from '../../../store/store.ts';
import type { TurnDeps } from '../../deps.ts';
import type { EventLog } from '../../records/event-log.ts';
import { Turns } from '../../records/turn-documents.ts';
import { charsOf, type TurnRecord } from '../turn-record.ts';

/** Events of a turn that another instance follows reach the store at most this late; Firestore's guideline. */
const FOLLOWED_FLUSH_MS = 1_000;
/** The same for turns that no other instance follows: at first, and once the turn is LONG_MS old. */
const FLUSH_MS_MIN = 2_000;
const FLUSH_MS_MAX = 10_000;
const LONG_MS = 60_000;
/** Characters of unwritten text from which on the turn is written as if it were followed. */
const UNWRITTEN_CHARS_MAX = 64 << 10;
/** A reader that has not shown itself again within this time has left. */
const FOLLOWED_MS = 30_000;
/** Most characters of events in the commit that ends the turn. */
const END_CHARS_MAX = 1 << 20;

export interface EventFlusher {
  /** Call after each event appended to the log. */
  touch(): void;
  /** Another instance follows the turn. */
  followed(): void;
  /**
   * Stops flushing. Resolves when no write is under way and the remaining events fit into the commit that ends the
   * turn. Rejects when a write fails; can be called again.
   */
  finish(): Promise<void>;
}

/** Milliseconds from an event to its write, for a turn that nothing follows; grows with the age of the turn. */
function flushDelayMs(ageMs: number): number {
  return Math.min(FLUSH_MS_MAX, FLUSH_MS_MIN + (FLUSH_MS_MAX - FLUSH_MS_MIN) * Math.cbrt(ageMs / LONG_MS));
}

/** `onLost` is called when the record shows that another instance has ended or erased the turn. */
export function createEventFlusher(
  { store, clock, log: logger }: Pick<TurnDeps, 'store' | 'clock' | 'log'>,
  log: EventLog,
  record: TurnRecord,
  onLost: () => void,
): EventFlusher {
  let timer: NodeJS.Timeout | undefined;
  let flushing: Promise<void> | undefined;
  let finished = false;
  let lost = false;
  let failed = false;
  let armedAtMs = 0;
  let followedUntilMs = Number.NEGATIVE_INFINITY;
  let unwrittenChars = 0;
  const startMs = clock.monotonic();

  const flush = async (): Promise<void> => {
    unwrittenChars = 0;
    try {
      const versions = await store.commit(record.writes(log.events, undefined, clock.now()));
      record.flushed(versions[0]);
    } catch (error) {
      if (!(error instanceof Conflict)) throw error;
      // An unconfirmed write of this instance, or the end by another one: the stored record decides.
      const [stored] = await store.get([record.ref]);
      if (stored?.version != null && Turns.read(stored)?.status === 'running') record.updateFence(stored.version);
      else {
        lost = true;
        onLost();
      }
    }
  };
  const lastSeq = (): number => log.events.at(-1)?.seq ?? 0;
  const delayMs = (nowMs: number): number => {
    // After a failed write, events have waited for a whole delay already.
    const isUrgent = failed || nowMs < followedUntilMs || unwrittenChars >= UNWRITTEN_CHARS_MAX;
    return isUrgent ? FOLLOWED_FLUSH_MS : flushDelayMs(nowMs - startMs);
  };
  const arm = (): void => {
    if (finished || lost || timer !== undefined || flushing !== undefined || lastSeq() <= record.flushedSeq) return;
    armedAtMs = clock.monotonic();
    startIn(delayMs(armedAtMs));
  };
  /** The delay of the events that wait may have become shorter. */
  const hurry = (): void => {
    if (timer === undefined || finished) return;
    clearTimeout(timer);
    const nowMs = clock.monotonic();
    startIn(Math.max(0, armedAtMs + delayMs(nowMs) - nowMs));
  };
  const startIn = (ms: number): void => {
    timer = setTimeout(() => {
      timer = undefined;
      flushing = flush()
        .then(
          () => {
            failed = false;
          },
          (error: unknown) => {
            failed = true;
            logger.warn('turn events not flushed yet', errorFields(error));
          },
        )
        .finally(() => {
          flushing = undefined;
          arm();
        });
    }, ms);
  };

  return {
    touch() {
      const before = unwrittenChars;
      const last = log.events.at(-1);
      if (last !== undefined) unwrittenChars += charsOf(last.event);
      if (before < UNWRITTEN_CHARS_MAX && unwrittenChars >= UNWRITTEN_CHARS_MAX) hurry();
      arm();
    },
    followed() {
      const nowMs = clock.monotonic();
      const before = followedUntilMs;
      followedUntilMs = nowMs + FOLLOWED_MS;
      if (before <= nowMs) hurry();
    },
    async finish() {
      finished = true;
      clearTimeout(timer);
      await flushing;
      while (!lost && charsAfter(log, record.flushedSeq) > END_CHARS_MAX) await flush();
    },
  };
}

function charsAfter({ events }: EventLog, seq: number): number {
  return events.reduce((sum, { seq: each, event }) => (each <= seq ? sum : sum + charsOf(event)), 0);
}
