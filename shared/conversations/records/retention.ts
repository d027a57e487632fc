// Decides when a session expires: some days after its last prompt or answer, by its own number of days or else the
// deployment's. From that moment on it looks absent to every caller. The sweep (expire.ts) erases it within a day of
// that.
import { utcDay, type WallClock } from '../../clock.ts';
import type { ConversationDocument } from './documents.ts';

const DAY_MS = 86_400_000;

export interface Retention {
  isExpired(conversation: ConversationDocument): boolean;
  /**
   * The document with `expires_on`, by which the sweep finds it. Call it where the last activity or the days change,
   * for a write that is made anyway.
   */
  stamp(conversation: ConversationDocument): ConversationDocument;
  /** The UTC day of now, in the form of `expires_on`. */
  today(): string;
}

/** `days`: of sessions without their own; undefined: they do not expire. */
export function createRetention(clock: WallClock, days: number | undefined): Retention {
  const expiryOf = ({ retention_days = days, updated_at }: ConversationDocument): number | undefined =>
    retention_days === undefined ? undefined : Date.parse(updated_at) + retention_days * DAY_MS;

  return {
    isExpired(conversation) {
      const expiryMs = expiryOf(conversation);
      const nowMs = clock.now();
      if (expiryMs === undefined || expiryMs > nowMs) return false;
      // A running turn is activity: it ends before the session expires.
      return (conversation.turn?.lease_until_ms ?? 0) <= nowMs;
    },

    stamp(conversation) {
      const { expires_on: before, ...others } = conversation;
      const expiryMs = expiryOf(conversation);
      const expires_on = expiryMs === undefined ? undefined : utcDay(expiryMs);
      if (expires_on === before) return conversation;
      return expires_on === undefined ? others : { ...others, expires_on };
    },

    today: () => utcDay(clock.now()),
  };
}
