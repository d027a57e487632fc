// What the clients saw, in memory: admissions, turns, answers, deliveries, sessions. Judges at once what can be judged
// at once; the rest is the audit's. Bounded: a run that outgrows it fails.
import { createHash } from 'node:crypto';
import { isObject, type TurnEvent } from '../../shared/client/events.ts';
import { isTerminal } from '../../shared/turn-events.ts';
import type { Checks } from './guarantees.ts';
import type { Ask } from './prompts.ts';

export type Json = Readonly<Record<string, unknown>>;

const ENTRIES_MAX = 1_000_000;

export interface Admission {
  readonly keyId: string;
  /** Process that admitted: the degraded bucket is its own. */
  readonly process: string;
  readonly limit: number;
  readonly remaining: number;
  /** End of the window, epoch seconds. */
  readonly reset: number;
  readonly cost: number;
}

export interface Session {
  readonly keyId: string;
  readonly id: string;
  /** Calls that use it at present. */
  users: number;
  prompts: number;
  /** `maybe`: a delete was sent and never answered. */
  deleted: 'no' | 'maybe' | 'yes';
  /** A prompt of it was acknowledged, so it exists. */
  exists: boolean;
}

export interface Turn {
  readonly id: string;
  readonly session: Session;
  /** Digests of the events that were seen, by seq. */
  readonly events: Map<number, string>;
  status: string | undefined;
  /** When somebody was first shown its end, by performance.now(). */
  endShownMs: number | undefined;
  /** Somebody was told the event that ends it. */
  endSeen: boolean;
  /** Of its end, but for one that may have been written for a lost owner. */
  lastSeq: number | undefined;
  /** The answer that was acknowledged. */
  answer: string | undefined;
}

export interface Delivery {
  readonly keyId: string;
  readonly id: string;
  readonly body: string;
  /** Event ids of its acknowledgements. */
  readonly eventIds: string[];
  /** Acknowledgements that called it new. */
  firsts: number;
}

export interface Journal {
  readonly checks: Checks;
  readonly admissions: readonly Admission[];
  readonly sessions: readonly Session[];
  readonly turns: ReadonlyMap<string, Turn>;
  readonly deliveries: readonly Delivery[];
  /** Numbers for the report, by name. */
  readonly counts: Readonly<Record<string, number>>;
  count(name: string, by?: number): void;
  admitted(admission: Admission): void;
  open(keyId: string, id: string): Session;
  /** An event as a connection brought it, after the one numbered `previous`. */
  event(session: Session, event: TurnEvent, previous: number): Turn;
  /**
   * Somebody said how a turn stands, having been asked at `askedMs` (default: now): an end that was shown to another
   * client while the answer was on its way does not make that wrong.
   */
  status(session: Session, turnId: string, status: string, source: string, askedMs?: number): Turn;
  /** The answer of a prompt: its result, or the error that tells how it ended. Returns the turn that completed. */
  answer(session: Session, ask: Ask, result: Json | undefined, error: Json | undefined): Turn | undefined;
  deliver(delivery: Delivery): void;
}

export function createJournal(checks: Checks): Journal {
  const admissions: Admission[] = [];
  const sessions: Session[] = [];
  const turns = new Map<string, Turn>();
  const deliveries: Delivery[] = [];
  const counts: Record<string, number> = {};
  let entries = 0;
  const enter = (): void => {
    if (++entries === ENTRIES_MAX) checks.check('errors', false, () => 'the journal is full: fewer minutes, please');
  };
  const count = (name: string, by = 1): void => {
    counts[name] = (counts[name] ?? 0) + by;
  };
  const turnOf = (session: Session, id: string): Turn => {
    let turn = turns.get(id);
    if (turn === undefined) {
      enter();
      turn = {
        id,
        session,
        events: new Map(),
        status: undefined,
        endShownMs: undefined,
        endSeen: false,
        lastSeq: undefined,
        answer: undefined,
      };
      turns.set(id, turn);
      count('turns');
    }
    // Counted only when it happens: the table's figure is that of the attempts.
    if (turn.session !== session) checks.check('foreign', false, () => `turn ${id} is told of in two sessions`);
    return turn;
  };

  const status: Journal['status'] = (session, turnId, found, source, askedMs = performance.now()) => {
    const turn = turnOf(session, turnId);
    if (found === 'running') {
      const wasOver = turn.endShownMs !== undefined && turn.endShownMs < askedMs;
      checks.check('terminal', !wasOver, () => `${turnId}: ${turn.status}, then running (${source})`);
      return turn;
    }
    const same = turn.status === undefined || turn.status === found;
    checks.check('terminal', same, () => `${turnId}: ${turn.status}, then ${found} (${source})`);
    if (turn.status === undefined) count(`turns ${found}`);
    turn.status ??= found;
    turn.endShownMs ??= performance.now();
    return turn;
  };

  return {
    checks,
    admissions,
    sessions,
    turns,
    deliveries,
    counts,
    count,
    status,
    admitted(admission) {
      enter();
      admissions.push(admission);
    },
    open(keyId, id) {
      const session: Session = { keyId, id, users: 0, prompts: 0, deleted: 'no', exists: false };
      enter();
      sessions.push(session);
      return session;
    },
    event(session, told, previous) {
      const turn = turnOf(session, told.turn_id);
      const { seq, event } = told;
      const ends = isTerminal(told.event);
      session.exists = true;
      count('events');
      checks.check('streams', seq === previous + 1, () => `${turn.id}: ${seq} after ${previous}`);
      // An owner that is lost takes along what it has told and not stored: the end that is written for it is each
      // reader's next event.
      const isForLost = event.TurnAborted !== undefined;
      if (isForLost) checks.check('ends', turn.lastSeq === undefined, () => `${turn.id}: ${seq} beside its end`);
      else {
        const digest = digestOf(event);
        const known = turn.events.get(seq);
        checks.check('streams', known === undefined || known === digest, () => `${turn.id}: event ${seq} has changed`);
        if (known === undefined) {
          enter();
          turn.events.set(seq, digest);
        }
        const after = turn.lastSeq !== undefined && (ends ? seq !== turn.lastSeq : seq >= turn.lastSeq);
        checks.check('ends', !after, () => `${turn.id}: event ${seq} beside its end ${turn.lastSeq}`);
      }
      if (ends) {
        turn.endSeen = true;
        if (!isForLost) turn.lastSeq = seq;
        status(session, turn.id, statusOf(told), 'event');
      }
      return turn;
    },
    answer(session, ask, result, error) {
      if (result !== undefined) {
        const turn = status(session, String(result.turn_id), 'completed', 'answer');
        const content = String(result.content);
        checks.check('answers', content === ask.expected, () => `${turn.id}: ${content.slice(0, 200)}`);
        const own = result.session_id === session.id;
        if (!own) checks.check('foreign', false, () => `${turn.id}: of ${String(result.session_id)}`);
        turn.answer = content;
        session.exists = true;
        count('answers');
        return turn;
      }
      const data = isObject(error?.data) ? error.data : {};
      if (typeof data.turn_id === 'string' && typeof data.conversation_id === 'string') {
        status(session, data.turn_id, String(data.turn_status ?? 'failed'), 'answer');
        session.exists = true;
      }
      return undefined;
    },
    deliver(delivery) {
      enter();
      deliveries.push(delivery);
    },
  };
}

/**
 * A WebSocket message has at most 1 MiB, so the last event of a long answer arrives there with its text shortened to
 * this many characters. Its beginning is compared here; the whole text by its deltas, its response and its history.
 */
const SHORTENED_CHARS = 64 << 10;
const COMPARED_CHARS = 60_000;

/** Short, and the same for the same event. */
export function digestOf(event: object): string {
  const text = JSON.stringify(event, (_name, value: unknown) =>
    typeof value === 'string' && value.length >= SHORTENED_CHARS ? value.slice(0, COMPARED_CHARS) : value,
  );
  return createHash('sha256').update(text).digest('base64url').slice(0, 12);
}

/** How a turn stands after this terminal event. */
export function statusOf({ event }: Pick<TurnEvent, 'event'>): string {
  if (event.TaskComplete !== undefined) return 'completed';
  if (event.Error !== undefined) return 'failed';
  const reason = event.TurnAborted?.reason;
  return reason === 'interrupted' || reason === 'expired' ? 'interrupted' : 'cancelled';
}
