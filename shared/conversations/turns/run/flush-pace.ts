// Decides how long the events of a running turn wait until they are written. Writes are billed and most turns have no
// reader elsewhere, so they are spaced out as the turn gets longer; for a reader on another instance, after a failed
// write, or with much unwritten text, the turn is written every second.

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

/** All times are monotonic milliseconds. */
export interface FlushPace {
  /** Milliseconds from an event to its write. */
  delayMs(nowMs: number): number;
  /** Counts unwritten text; returns true when the delay has become shorter. */
  appended(chars: number): boolean;
  /** Another instance follows the turn; returns true when the delay has become shorter. */
  followed(nowMs: number): boolean;
  /** A write of all text begins. */
  writing(): void;
  /** The write has been stored, or has failed. */
  written(isStored: boolean): void;
}

/** `startMs` is the start of the turn. */
export function createFlushPace(startMs: number): FlushPace {
  let hasFailed = false;
  let followedUntilMs = Number.NEGATIVE_INFINITY;
  let unwrittenChars = 0;
  return {
    delayMs(nowMs) {
      // After a failed write, events have waited for a whole delay already.
      const isUrgent = hasFailed || nowMs < followedUntilMs || unwrittenChars >= UNWRITTEN_CHARS_MAX;
      return isUrgent ? FOLLOWED_FLUSH_MS : unfollowedDelayMs(nowMs - startMs);
    },
    appended(chars) {
      const before = unwrittenChars;
      unwrittenChars += chars;
      return before < UNWRITTEN_CHARS_MAX && unwrittenChars >= UNWRITTEN_CHARS_MAX;
    },
    followed(nowMs) {
      const before = followedUntilMs;
      followedUntilMs = nowMs + FOLLOWED_MS;
      return before <= nowMs;
    },
    writing() {
      unwrittenChars = 0;
    },
    written(isStored) {
      hasFailed = !isStored;
    },
  };
}

/** Milliseconds from an event to its write, for a turn that nothing follows; grows with the age of the turn. */
function unfollowedDelayMs(ageMs: number): number {
  return Math.min(FLUSH_MS_MAX, FLUSH_MS_MIN + (FLUSH_MS_MAX - FLUSH_MS_MIN) * Math.cbrt(ageMs / LONG_MS));
}
