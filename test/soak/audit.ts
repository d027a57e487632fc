// The audit after the faults: compares what the clients received with what the gateway returns now, for each turn and
// each session. Reads through the API alone.

import { setTimeout as sleep } from 'node:timers/promises';
import { toTurnEvent } from '../../shared/client/events.ts';
import { isObject } from '../../shared/json-object.ts';
import { call } from './call.ts';
import type { ConversationClient } from './conversation-client.ts';
import type { Fleet } from './fleet.ts';
import { digestOf, type Journal, type Json, type Session, statusOf, type Turn } from './journal.ts';
import { createPrompt, parsePrompt } from './prompts.ts';

const PARALLEL = 8;
/** States that another instance may write for a lost owner, which may have sent more events than it had stored. */
const ENDS_FOR_LOST_OWNER: ReadonlySet<unknown> = new Set(['interrupted', 'cancelled']);
const ATTEMPTS_MAX = 6;
/** A lease of a killed process expires after 30 s, by a clock that may have been 30 s ahead. */
const SETTLED_WITHIN_MS = 75_000;

export interface AuditDeps {
  readonly journal: Journal;
  readonly fleet: Fleet;
  readonly clients: ReadonlyMap<string, ConversationClient>;
}

/** Every session and every turn of the journal. */
export async function auditTurns({ journal, fleet, clients }: AuditDeps): Promise<void> {
  const { checks } = journal;
  const request = async (session: Session, method: string, params: object): Promise<Json | 404> => {
    const client = clients.get(session.keyId);
    for (let attempt = 0; client !== undefined && attempt < ATTEMPTS_MAX; attempt++) {
      const response = await call(client, client.random.pick(fleet.instances), method, {
        session_id: session.id,
        ...params,
      });
      if (response?.result !== undefined) return response.result;
      if (response?.error?.code === 404) return 404;
      await sleep(200 * (attempt + 1));
    }
    throw new Error(`${method} of ${session.id} gets no response after the run`);
  };

  const giveUpMs = performance.now() + SETTLED_WITHIN_MS;
  const auditState = async (session: Session): Promise<void> => {
    let state: unknown;
    do {
      const status = await request(session, 'conversation.status', {});
      state = status === 404 ? 404 : status.status;
      if (state !== 'running') break;
      await sleep(1_000);
    } while (performance.now() < giveUpMs);
    checks.check('usable', state !== 'running', () => `${session.id} is still running`);
    const isGone = state === 'not_found';
    if (session.deleted === 'yes') checks.check('deleted', isGone, () => `${session.id} is ${state} again`);
    else if (session.deleted === 'no')
      checks.check('answers', !isGone || !session.exists, () => `${session.id} is lost`);
  };

  const auditHistory = async (session: Session, own: readonly Turn[]): Promise<void> => {
    const history = await readHistory(session, request);
    if (session.deleted !== 'no' || history === undefined) return;
    const detail = (what: string) => (): string => `${session.id}: ${what}`;
    const answered = Map.groupBy(history.filter(isAnswer), (message) => String(message.turn_id));
    for (const { id, answer } of own) {
      if (answer === undefined) continue;
      const found = answered.get(id) ?? [];
      const isKept = found.length === 1 && found[0]?.content === answer && found[0].partial !== true;
      checks.check('answers', isKept, detail(`${id} was acknowledged and is ${JSON.stringify(found).slice(0, 300)}`));
    }
    const prompts = new Map<string, string>();
    const wholeAnswers = new Set<string>();
    for (const [index, message] of history.entries()) {
      checks.check('history', message.seq === index + 1, detail(`message ${message.seq} at position ${index + 1}`));
      const turnId = String(message.turn_id);
      if (!isAnswer(message)) {
        const nonce = parsePrompt(String(message.content))?.nonce;
        checks.check('history', nonce?.startsWith(`${session.keyId}n`) === true, detail(`prompt ${message.content}`));
        checks.check('history', !prompts.has(turnId), detail(`two prompts in ${turnId}`));
        prompts.set(turnId, String(message.content));
        continue;
      }
      const prompt = parsePrompt(prompts.get(turnId) ?? '');
      const isExpected =
        message.partial === true
          ? prompt?.expected.startsWith(String(message.content))
          : prompt?.expected === message.content;
      checks.check(
        'history',
        isExpected === true,
        detail(`${turnId} answers ${String(message.content).slice(0, 200)}`),
      );
      if (message.partial === true || prompt === undefined) continue;
      checks.check('idempotency', !wholeAnswers.has(prompt.nonce), detail(`${prompt.nonce} was answered twice`));
      wholeAnswers.add(prompt.nonce);
    }
  };

  const auditTurn = async (turn: Turn): Promise<void> => {
    const { session } = turn;
    if (session.deleted === 'maybe') return;
    const stored = await request(session, 'conversation.resume', { turn_id: turn.id });
    if (session.deleted === 'yes' || stored === 404) {
      checks.check(
        session.deleted === 'yes' ? 'deleted' : 'answers',
        stored === 404 && session.deleted === 'yes',
        () => (stored === 404 ? `${turn.id} is lost` : `${turn.id} is still returned`),
      );
      return;
    }
    journal.recordStatus(session, turn.id, String(stored.status), 'audit');
    checks.check('usable', stored.status !== 'running', () => `${turn.id} is still running`);
    const events = readEvents(session, turn, stored);
    // A page holds 1 MiB of events; a long turn has several.
    for (let page = stored; page.more === true; ) {
      const next = await request(session, 'conversation.resume', { turn_id: turn.id, after_seq: page.last_seq });
      if (next === 404) break;
      events.push(...readEvents(session, turn, next));
      page = next;
    }
    const ends = events.filter(({ status }) => status !== undefined);
    const last = events.at(-1);
    checks.check('ends', ends.length === 1 && last?.status !== undefined, () => `${turn.id}: ${ends.length} ends`);
    checks.check(
      'terminal',
      last?.status === stored.status,
      () => `${turn.id}: ends with ${last?.status}, stored as ${stored.status}`,
    );
    for (const [index, { seq, digest, status }] of events.entries()) {
      checks.check('streams', seq === index + 1, () => `${turn.id}: stored event ${seq} at position ${index + 1}`);
      const received = turn.events.get(seq);
      const differs = received !== undefined && received !== digest && !ENDS_FOR_LOST_OWNER.has(status);
      checks.check('streams', !differs, () => `${turn.id}: stored event ${seq} differs`);
    }
    const bySeq = new Set(events.map(({ seq }) => seq));
    const lost = stored.status === 'completed' ? [...turn.events.keys()].filter((seq) => !bySeq.has(seq)) : [];
    checks.check('streams', lost.length === 0, () => `${turn.id}: events ${lost.join()} were sent and are not stored`);
  };

  const auditPrompt = async (session: Session): Promise<void> => {
    if (session.deleted !== 'no' || !session.exists) return;
    const prompt = createPrompt(`${session.id}audit`, { chunks: 2, everyMs: 0 });
    const result = await request(session, 'conversation.prompt', { prompt: prompt.text, on_busy: 'queue' });
    const isExpected = result !== 404 && result.content === prompt.expected;
    checks.check('usable', isExpected, () => `${session.id} answers ${JSON.stringify(result).slice(0, 200)}`);
  };

  const turnsOf = Map.groupBy(journal.turns.values(), ({ session }) => session);
  await each(journal.sessions, auditState);
  await each([...journal.turns.values()], auditTurn);
  await each(journal.sessions, (session) => auditHistory(session, turnsOf.get(session) ?? []));
  await each(journal.sessions, auditPrompt);
}

/** The messages of a session; undefined when it does not exist. */
async function readHistory(
  session: Session,
  request: (session: Session, method: string, params: object) => Promise<Json | 404>,
): Promise<Json[] | undefined> {
  const messages: Json[] = [];
  for (let cursor: unknown; ; ) {
    const page = await request(session, 'conversation.history', cursor === undefined ? {} : { cursor });
    if (page === 404) return undefined;
    messages.push(...(Array.isArray(page.messages) ? page.messages.filter(isObject) : []));
    cursor = page.next_cursor;
    if (cursor === undefined) return messages;
  }
}

function isAnswer(message: Json): boolean {
  return message.role === 'assistant';
}

/** Stored events as the journal keeps them; `status` where one ends the turn. */
function readEvents(session: Session, turn: Turn, { events }: Json) {
  const list = Array.isArray(events) ? events.filter(isObject) : [];
  return list.flatMap((numbered) => {
    const params = { session_id: session.id, conversation_id: '', turn_id: turn.id, ...numbered };
    const parsed = toTurnEvent({ method: 'conversation.event', params });
    if (parsed === undefined) return [];
    const { event, seq } = parsed;
    const ends = event.TaskComplete ?? event.TurnAborted ?? event.Error;
    return [{ seq, digest: digestOf(event), status: ends === undefined ? undefined : statusOf(parsed) }];
  });
}

/** Runs `work` for each item, PARALLEL at a time. */
async function each<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const next = items.values();
  const worker = async (): Promise<void> => {
    for (const item of next) await work(item);
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
}
