// After the faults: with everything whole again, holds what the clients saw against what the gateway tells now, turn by
// turn and session by session. Asks through the API alone.
import { setTimeout as sleep } from 'node:timers/promises';
import { isObject, toTurnEvent } from '../../shared/client/events.ts';
import { call } from './call.ts';
import type { Fleet } from './fleet.ts';
import { digestOf, type Journal, type Json, type Session, statusOf, type Turn } from './journal.ts';
import { createAsk, readAsk } from './prompts.ts';
import type { Talker } from './talker.ts';

const PARALLEL = 8;
/** Ends that may have been written for a lost owner, who may have told more than it stored. */
const FOR_LOST: ReadonlySet<unknown> = new Set(['interrupted', 'cancelled']);
const ATTEMPTS_MAX = 6;
/** Leases of the dead end after 30 s, by a clock that may have been 30 s ahead. */
const SETTLED_WITHIN_MS = 75_000;

export interface AuditParts {
  readonly journal: Journal;
  readonly fleet: Fleet;
  readonly clients: ReadonlyMap<string, Talker>;
}

/** Every session and every turn that any client knows of. */
export async function auditTurns({ journal, fleet, clients }: AuditParts): Promise<void> {
  const { checks } = journal;
  const ask = async (session: Session, method: string, params: object): Promise<Json | 404> => {
    const client = clients.get(session.keyId);
    for (let attempt = 0; client !== undefined && attempt < ATTEMPTS_MAX; attempt++) {
      const reply = await call(client, client.random.pick(fleet.instances), method, {
        session_id: session.id,
        ...params,
      });
      if (reply?.result !== undefined) return reply.result;
      if (reply?.error?.code === 404) return 404;
      await sleep(200 * (attempt + 1));
    }
    throw new Error(`${method} of ${session.id} is not answered after the run`);
  };

  const giveUpMs = performance.now() + SETTLED_WITHIN_MS;
  const auditEnd = async (session: Session): Promise<void> => {
    let standing: unknown;
    do {
      const status = await ask(session, 'conversation.status', {});
      standing = status === 404 ? 404 : status.status;
      if (standing !== 'running') break;
      await sleep(1_000);
    } while (performance.now() < giveUpMs);
    checks.check('usable', standing !== 'running', () => `${session.id} still runs`);
    const gone = standing === 'not_found';
    if (session.deleted === 'yes') checks.check('deleted', gone, () => `${session.id} is ${standing} again`);
    else if (session.deleted === 'no') checks.check('answers', !gone || !session.exists, () => `${session.id} is lost`);
  };

  const auditHistory = async (session: Session, own: readonly Turn[]): Promise<void> => {
    const history = await readHistory(session, ask);
    if (session.deleted !== 'no' || history === undefined) return;
    const told = (what: string) => (): string => `${session.id}: ${what}`;
    const answered = Map.groupBy(history.filter(isAnswer), (message) => String(message.turn_id));
    for (const { id, answer } of own) {
      if (answer === undefined) continue;
      const found = answered.get(id) ?? [];
      const kept = found.length === 1 && found[0]?.content === answer && found[0].partial !== true;
      checks.check('answers', kept, told(`${id} was acknowledged and is ${JSON.stringify(found).slice(0, 300)}`));
    }
    const prompts = new Map<string, string>();
    const wholeAnswers = new Set<string>();
    for (const [index, message] of history.entries()) {
      checks.check('history', message.seq === index + 1, told(`message ${message.seq} at place ${index + 1}`));
      const turnId = String(message.turn_id);
      if (!isAnswer(message)) {
        const nonce = readAsk(String(message.content))?.nonce;
        checks.check('history', nonce?.startsWith(`${session.keyId}n`) === true, told(`prompt ${message.content}`));
        checks.check('history', !prompts.has(turnId), told(`two prompts in ${turnId}`));
        prompts.set(turnId, String(message.content));
        continue;
      }
      const asked = readAsk(prompts.get(turnId) ?? '');
      const right =
        message.partial === true
          ? asked?.expected.startsWith(String(message.content))
          : asked?.expected === message.content;
      checks.check('history', right === true, told(`${turnId} answers ${String(message.content).slice(0, 200)}`));
      if (message.partial === true || asked === undefined) continue;
      checks.check('idempotency', !wholeAnswers.has(asked.nonce), told(`${asked.nonce} was answered twice`));
      wholeAnswers.add(asked.nonce);
    }
  };

  const auditTurn = async (turn: Turn): Promise<void> => {
    const { session } = turn;
    if (session.deleted === 'maybe') return;
    const stored = await ask(session, 'conversation.resume', { turn_id: turn.id });
    if (session.deleted === 'yes' || stored === 404) {
      checks.check(
        session.deleted === 'yes' ? 'deleted' : 'answers',
        stored === 404 && session.deleted === 'yes',
        () => (stored === 404 ? `${turn.id} is lost` : `${turn.id} is still told of`),
      );
      return;
    }
    journal.status(session, turn.id, String(stored.status), 'audit');
    checks.check('usable', stored.status !== 'running', () => `${turn.id} still runs`);
    const events = readEvents(session, turn, stored);
    // A page holds 1 MiB of events; a long turn has several.
    for (let page = stored; page.more === true; ) {
      const next = await ask(session, 'conversation.resume', { turn_id: turn.id, after_seq: page.last_seq });
      if (next === 404) break;
      events.push(...readEvents(session, turn, next));
      page = next;
    }
    const ends = events.filter(({ status }) => status !== undefined);
    const last = events.at(-1);
    checks.check('ends', ends.length === 1 && last?.status !== undefined, () => `${turn.id}: ${ends.length} ends`);
    checks.check('terminal', last?.status === stored.status, () => `${turn.id}: ${last?.status}, yet ${stored.status}`);
    for (const [index, { seq, digest, status }] of events.entries()) {
      checks.check('streams', seq === index + 1, () => `${turn.id}: stored event ${seq} at place ${index + 1}`);
      const seen = turn.events.get(seq);
      const differs = seen !== undefined && seen !== digest && !FOR_LOST.has(status);
      checks.check('streams', !differs, () => `${turn.id}: stored event ${seq} differs`);
    }
    const bySeq = new Set(events.map(({ seq }) => seq));
    const lost = stored.status === 'completed' ? [...turn.events.keys()].filter((seq) => !bySeq.has(seq)) : [];
    checks.check('streams', lost.length === 0, () => `${turn.id}: events ${lost.join()} were told and are not stored`);
  };

  const auditUse = async (session: Session): Promise<void> => {
    if (session.deleted !== 'no' || !session.exists) return;
    const asked = createAsk(`${session.id}audit`, { chunks: 2, everyMs: 0 });
    const answer = await ask(session, 'conversation.prompt', { prompt: asked.prompt, on_busy: 'queue' });
    const right = answer !== 404 && answer.content === asked.expected;
    checks.check('usable', right, () => `${session.id} answers ${JSON.stringify(answer).slice(0, 200)}`);
  };

  const turnsOf = Map.groupBy(journal.turns.values(), ({ session }) => session);
  await each(journal.sessions, auditEnd);
  await each([...journal.turns.values()], auditTurn);
  await each(journal.sessions, (session) => auditHistory(session, turnsOf.get(session) ?? []));
  await each(journal.sessions, auditUse);
}

/** The messages of a session; undefined when it is not there. */
async function readHistory(
  session: Session,
  ask: (session: Session, method: string, params: object) => Promise<Json | 404>,
): Promise<Json[] | undefined> {
  const messages: Json[] = [];
  for (let cursor: unknown; ; ) {
    const page = await ask(session, 'conversation.history', cursor === undefined ? {} : { cursor });
    if (page === 404) return undefined;
    messages.push(...(Array.isArray(page.messages) ? page.messages.filter(isObject) : []));
    cursor = page.next_cursor;
    if (cursor === undefined) return messages;
  }
}

function isAnswer(message: Json): boolean {
  return message.role === 'assistant';
}

/** Stored events as the journal knows them; `status` where one ends the turn. */
function readEvents(session: Session, turn: Turn, { events }: Json) {
  const list = Array.isArray(events) ? events.filter(isObject) : [];
  return list.flatMap((numbered) => {
    const params = { session_id: session.id, conversation_id: '', turn_id: turn.id, ...numbered };
    const told = toTurnEvent({ method: 'conversation.event', params });
    if (told === undefined) return [];
    const { event, seq } = told;
    const ends = event.TaskComplete ?? event.TurnAborted ?? event.Error;
    return [{ seq, digest: digestOf(event), status: ends === undefined ? undefined : statusOf(told) }];
  });
}

/** A few at a time. */
async function each<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const next = items.values();
  const worker = async (): Promise<void> => {
    for (const item of next) await work(item);
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
}
