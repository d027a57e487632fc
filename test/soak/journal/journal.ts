// Records in memory what the clients received: admissions, turns, answers, deliveries, sessions. Checks at once what
// needs no later state; the audit checks the rest. Bounded: a run that exceeds ENTRIES_MAX fails.

import { createHash } from 'node:crypto';
import type { TurnEvent } from '../../../shared/client/events.ts';
import { isObject } from '../../../shared/json/json-object.ts';
import { isTerminal } from '../../../shared/turn-events.ts';
import type { Checks } from '../guarantees.ts';
import type { Admission, AnsweredKey, Delivery, Json, SentPrompt, Session, Turn } from './journal-records.ts';
import type { Prompt } from './prompts.ts';

const ENTRIES_MAX = 1_000_000;

export interface Journal {
  readonly checks: Checks;
  readonly admissions: readonly Admission[];
  readonly sessions: readonly Session[];
  readonly turns: ReadonlyMap<string, Turn>;
  readonly deliveries: readonly Delivery[];
  /** By nonce. */
  readonly prompts: ReadonlyMap<string, SentPrompt>;
  readonly answeredKeys: AnsweredKey[];
  /** Numbers for the report, by name. */
  readonly counts: Readonly<Record<string, number>>;
  count(name: string, by?: number): void;
  recordAdmission(admission: Admission): void;
  openSession(
    keyId: string,
    id: string,
    fork?: { readonly forkOf: Session; readonly copied: readonly Json[] },
  ): Session;
  /** A prompt that is about to be sent, for the first time or again. */
  recordPrompt(session: Session, prompt: Prompt, afterSeq?: number): SentPrompt;
  /** A call of the prompt is over, with or without a response. */
  recordSettled(sent: SentPrompt, hasResponse: boolean): void;
  /** An event that arrived on a connection after the one numbered `previous`. */
  recordEvent(session: Session, event: TurnEvent, previous: number): Turn;
  /**
   * The state of a turn in a response. `requestedMs` (default: now) is when the call was sent: `running` is right if no
   * client had received a terminal state by then.
   */
  recordStatus(session: Session, turnId: string, status: string, source: string, requestedMs?: number): Turn;
  /** The response of a prompt: its result, or the error with the state of its turn. Returns the completed turn. */
  recordAnswer(session: Session, prompt: Prompt, result: Json | undefined, error: Json | undefined): Turn | undefined;
  recordDelivery(delivery: Delivery): void;
}

export function createJournal(checks: Checks): Journal {
  const admissions: Admission[] = [];
  const sessions: Session[] = [];
  const turns = new Map<string, Turn>();
  const deliveries: Delivery[] = [];
  const prompts = new Map<string, SentPrompt>();
  const answeredKeys: AnsweredKey[] = [];
  const counts: Record<string, number> = {};
  let entries = 0;
  const countEntry = (): void => {
    if (++entries === ENTRIES_MAX)
      checks.check('errors', false, () => `the journal has ${ENTRIES_MAX} entries: run the soak for fewer minutes`);
  };
  const count = (name: string, by = 1): void => {
    counts[name] = (counts[name] ?? 0) + by;
  };
  const turnOf = (session: Session, id: string): Turn => {
    let turn = turns.get(id);
    if (turn === undefined) {
      countEntry();
      turn = {
        id,
        session,
        events: new Map(),
        status: undefined,
        terminalAtMs: undefined,
        isEndReceived: false,
        lastSeq: undefined,
        answer: undefined,
        answered: undefined,
      };
      turns.set(id, turn);
      count('turns');
    }
    // Only the violation is counted: `checked` of this guarantee is the number of probes.
    if (turn.session !== session) checks.check('foreign', false, () => `turn ${id} is in two sessions`);
    return turn;
  };

  const recordStatus: Journal['recordStatus'] = (session, turnId, found, source, requestedMs = performance.now()) => {
    const turn = turnOf(session, turnId);
    if (found === 'running') {
      const wasTerminal = turn.terminalAtMs !== undefined && turn.terminalAtMs < requestedMs;
      checks.check('terminal', !wasTerminal, () => `${turnId}: ${turn.status}, then running (${source})`);
      return turn;
    }
    const isSame = turn.status === undefined || turn.status === found;
    checks.check('terminal', isSame, () => `${turnId}: ${turn.status}, then ${found} (${source})`);
    if (turn.status === undefined) count(`turns ${found}`);
    turn.status ??= found;
    turn.terminalAtMs ??= performance.now();
    return turn;
  };

  return {
    checks,
    admissions,
    sessions,
    turns,
    deliveries,
    prompts,
    answeredKeys,
    counts,
    count,
    recordStatus,
    recordAdmission(admission) {
      countEntry();
      admissions.push(admission);
    },
    openSession(keyId, id, fork) {
      const state = { deleted: 'no' as const, gone: undefined, isReused: false, title: undefined };
      const session: Session = {
        keyId,
        id,
        copied: [],
        ...fork,
        users: 0,
        prompts: 0,
        exists: fork !== undefined,
        ...state,
      };
      countEntry();
      sessions.push(session);
      return session;
    },
    recordPrompt(session, prompt, afterSeq) {
      const repeated = prompts.get(prompt.nonce);
      if (repeated !== undefined) {
        repeated.pending++;
        repeated.settledAtMs = Number.POSITIVE_INFINITY;
        return repeated;
      }
      const times = { sentAtMs: performance.now(), settledAtMs: Number.POSITIVE_INFINITY, answeredAtMs: undefined };
      const sent = { prompt, session, afterSeq, ...times, isLost: false, pending: 1, answerSeq: undefined };
      countEntry();
      prompts.set(prompt.nonce, sent);
      return sent;
    },
    recordSettled(sent, hasResponse) {
      sent.pending--;
      if (!hasResponse) sent.isLost = true;
      if (sent.pending === 0 && !sent.isLost) sent.settledAtMs = performance.now();
    },
    recordEvent(session, received, previous) {
      const turn = turnOf(session, received.turn_id);
      const { seq, event } = received;
      const isEnd = isTerminal(received.event);
      session.exists = true;
      count('events');
      checks.check('streams', seq === previous + 1, () => `${turn.id}: ${seq} after ${previous}`);
      // A lost owner may have sent events that it had not stored. The end that another instance writes for it takes the
      // number after the last stored event, so it arrives as the next event of each reader, with different numbers.
      const isForLostOwner = event.TurnAborted !== undefined;
      if (isForLostOwner) checks.check('ends', turn.lastSeq === undefined, () => `${turn.id}: ${seq} beside its end`);
      else {
        const digest = digestOf(event);
        const recorded = turn.events.get(seq);
        checks.check(
          'streams',
          recorded === undefined || recorded === digest,
          () => `${turn.id}: event ${seq} has changed`,
        );
        if (recorded === undefined) {
          countEntry();
          turn.events.set(seq, digest);
        }
        const after = turn.lastSeq !== undefined && (isEnd ? seq !== turn.lastSeq : seq >= turn.lastSeq);
        checks.check('ends', !after, () => `${turn.id}: event ${seq} beside its end ${turn.lastSeq}`);
      }
      if (isEnd) {
        turn.isEndReceived = true;
        if (!isForLostOwner) turn.lastSeq = seq;
        recordStatus(session, turn.id, statusOf(received), 'event');
      }
      return turn;
    },
    recordAnswer(session, prompt, result, error) {
      const sent = prompts.get(prompt.nonce);
      if (result !== undefined) {
        const turn = recordStatus(session, String(result.turn_id), 'completed', 'answer');
        const content = String(result.content);
        checks.check('answers', content === prompt.expected, () => `${turn.id}: ${content.slice(0, 200)}`);
        const isOwn = result.session_id === session.id;
        if (!isOwn) checks.check('foreign', false, () => `${turn.id}: of ${String(result.session_id)}`);
        turn.answer = content;
        turn.answered = sent;
        if (sent !== undefined) {
          sent.answeredAtMs ??= performance.now();
          sent.answerSeq = Number(result.message_seq);
        }
        session.exists = true;
        count('answers');
        return turn;
      }
      const data = isObject(error?.data) ? error.data : {};
      if (typeof data.turn_id === 'string' && typeof data.conversation_id === 'string') {
        recordStatus(session, data.turn_id, String(data.turn_status ?? 'failed'), 'answer');
        session.exists = true;
      }
      return undefined;
    },
    recordDelivery(delivery) {
      countEntry();
      deliveries.push(delivery);
    },
  };
}

/**
 * A WebSocket message has at most 1 MiB, so the last event of a long answer arrives there with its text shortened to
 * this many characters. The digest covers its beginning; the deltas, the response and the history cover the whole text.
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

/** The state of a turn after this terminal event. */
export function statusOf({ event }: Pick<TurnEvent, 'event'>): string {
  if (event.TaskComplete !== undefined) return 'completed';
  if (event.Error !== undefined) return 'failed';
  const reason = event.TurnAborted?.reason;
  return reason === 'interrupted' || reason === 'expired' ? 'interrupted' : 'cancelled';
}
