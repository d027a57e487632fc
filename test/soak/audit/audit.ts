// Audits the turns and sessions after the faults: compares what the clients received with what the gateway returns now.
// Reads through the API alone.

import { setTimeout as sleep } from 'node:timers/promises';
import { toTurnEvent } from '../../../shared/client/events.ts';
import { isObject } from '../../../shared/json/json-object.ts';
import { digestOf, statusOf } from '../journal/journal.ts';
import type { AnsweredKey, Json, Session, Turn } from '../journal/journal-records.ts';
import { createPrompt, parsePrompt } from '../journal/prompts.ts';
import { type AuditDeps, createRequest, each, type Request } from './audit-request.ts';

/** States that another instance may write for a lost owner, which may have sent more events than it had stored. */
const ENDS_FOR_LOST_OWNER: ReadonlySet<unknown> = new Set(['interrupted', 'cancelled']);
/** A lease of a killed process expires after 30 s, by a clock that may have been 30 s ahead. */
const SETTLED_WITHIN_MS = 75_000;

/** Every session and every turn of the journal. */
export async function auditTurns({ journal, fleet, clients }: AuditDeps): Promise<void> {
  const { checks } = journal;
  const request = createRequest({ fleet, clients });

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
    // The state is that of the session that has its id now.
    if (session.isReused) return;
    if (session.deleted === 'yes') checks.check('deleted', isGone, () => `${session.id} is ${state} again`);
    else if (session.deleted === 'no')
      checks.check('answers', !isGone || !session.exists, () => `${session.id} is lost`);
  };

  const auditHistory = async (session: Session, own: readonly Turn[]): Promise<void> => {
    const history = await readHistory(session, request);
    if (session.deleted !== 'no' || history === undefined) return;
    const detail = (what: string) => (): string => `${session.id}: ${what}`;
    const answered = Map.groupBy(history.filter(isAnswer), (message) => String(message.turn_id));
    for (const { id, answer, answered: sent } of own) {
      if (answer === undefined || sent === undefined) continue;
      const found = answered.get(id) ?? [];
      const edits = editsOf(session).filter((edit) => edit !== sent && isBefore(edit.afterSeq, sent.answerSeq));
      const mayBeDropped = edits.some(({ settledAtMs }) => settledAtMs >= sent.sentAtMs);
      const isKept = found.length === 1 && found[0]?.content === answer && found[0].partial !== true;
      const isDropped = mayBeDropped && found.length === 0;
      const what = detail(`${id} was acknowledged and is ${JSON.stringify(found).slice(0, 300)}`);
      checks.check('answers', isKept || isDropped, what);
      const wasDropped = edits.some((edit) => edit.answerSeq !== undefined && edit.sentAtMs > (sent.answeredAtMs ?? 0));
      if (wasDropped) checks.check('dropped', found.length === 0, what);
    }
    const firstEdit = Math.min(...editsOf(session).map(({ afterSeq = 0 }) => afterSeq), session.copied.length);
    for (const { seq, role, content } of session.copied.slice(0, firstEdit)) {
      const found = history.find((message) => message.seq === seq);
      const isSame = found?.role === role && found?.content === content;
      checks.check('forks', isSame, detail(`copied message ${seq} is ${JSON.stringify(found).slice(0, 200)}`));
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
    await auditUsage(session, own, history);
  };

  /** What the session has used is the sum of its answers, if no other turn ran in it. */
  const auditUsage = async (session: Session, own: readonly Turn[], history: readonly Json[]): Promise<void> => {
    const answers = history.filter(isAnswer);
    const sent = promptsOf.get(session) ?? [];
    const isWhole =
      own.length === answers.length &&
      own.every(({ answered }) => answered !== undefined) &&
      answers.length * 2 === history.length &&
      session.copied.length === 0 &&
      sent.every(({ afterSeq, isLost }) => afterSeq === undefined && !isLost);
    if (!isWhole) return;
    const status = await request(session, 'conversation.status', {});
    const metadata = status !== 404 && isObject(status.metadata) ? status.metadata : {};
    const total = answers.reduce((sum, { usage }) => sum + (isObject(usage) ? Number(usage.total_tokens) : 0), 0);
    const used = isObject(metadata.usage) ? metadata.usage.total_tokens : undefined;
    checks.check('usage', used === total, () => `${session.id}: ${used}, its answers ${total}`);
    const isTitled = session.title === undefined || metadata.title === session.title;
    checks.check('labels', isTitled, () => `${session.id}: ${metadata.title} instead of ${session.title}`);
  };

  /** A call that was answered once is answered alike at any time, whatever became of its message. */
  const auditKey = async ({ session, params, result }: AnsweredKey): Promise<void> => {
    if (session.deleted !== 'no') return;
    const again = await request(session, 'conversation.prompt', params);
    const isSame = again !== 404 && again.turn_id === result.turn_id && again.content === result.content;
    const detail = (): string => `${result.turn_id} is ${JSON.stringify(again).slice(0, 300)}`;
    checks.check('idempotency', isSame, detail);
  };

  const promptsOf = Map.groupBy(journal.prompts.values(), ({ session }) => session);
  const editsOf = (session: Session) => (promptsOf.get(session) ?? []).filter(({ afterSeq }) => afterSeq !== undefined);

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
  await each(journal.answeredKeys, auditKey);
  await each(journal.sessions, auditPrompt);
}

function isBefore(afterSeq: number | undefined, seq: number | undefined): boolean {
  return afterSeq !== undefined && (seq === undefined || afterSeq < seq);
}

/** The messages of a session; undefined when it does not exist. */
async function readHistory(session: Session, request: Request): Promise<Json[] | undefined> {
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
