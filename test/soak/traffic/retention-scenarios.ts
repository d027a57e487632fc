// A session expires. The shortest retention is a day, so the stored time of its last use is moved into the past.

import { Conversations, conversationRef } from '../../../shared/conversations/records/documents.ts';
import { toRpcError } from '../../../shared/errors.ts';
import { isObject } from '../../../shared/json/json-object.ts';
import type { Store } from '../../../shared/store/store.ts';
import { transact } from '../../../shared/store/transact.ts';
import type { Session } from '../journal/journal-records.ts';
import { call } from './call.ts';
import { type ConversationClient, callPrompt, newPrompt, newSession, pickInstance } from './conversation-client.ts';

const DAY_MS = 86_400_000;
const RETENTION_DAYS = 1;
const UNUSED_DAYS = 3;

/** An expired session is absent on every read on every instance, and its id belongs to a new session. */
export async function expireSession(client: ConversationClient): Promise<void> {
  const { random, journal, fleet } = client;
  const session = newSession(client);
  const turn = await callPrompt(client, pickInstance(client), session, newPrompt(client, { chunks: 2, everyMs: 0 }));
  if (turn === undefined) return;
  const params = { session_id: session.id, retention_days: RETENTION_DAYS };
  const updated = await call(client, pickInstance(client), 'conversation.update', params);
  if (updated?.result === undefined) return;
  session.deleted = 'maybe';
  if (!(await age(fleet.store, session))) return;
  session.deleted = 'yes';
  journal.count('sessions expired');
  await Promise.all(fleet.instances.map((instance) => checkAbsent(client, instance, session, turn.id)));
  // The sweep erases it, where the clock has been steady for ten minutes; before that, the next call that names it.
  if (random.chance(0.5)) await startAgain(client, session);
  else {
    const { result } =
      (await call(client, pickInstance(client), 'conversation.delete', { session_id: session.id })) ?? {};
    if (result !== undefined) session.gone = 'expired';
  }
}

/** A prompt to an expired session begins a new one. */
async function startAgain(client: ConversationClient, session: Session): Promise<void> {
  const { journal, keyId } = client;
  session.isReused = true;
  const next = journal.openSession(keyId, session.id);
  const prompt = newPrompt(client, { chunks: 2, everyMs: 0 });
  const answered = await callPrompt(client, pickInstance(client), next, prompt);
  if (answered === undefined) return;
  session.gone = 'expired';
  const seq = journal.prompts.get(prompt.nonce)?.answerSeq;
  journal.checks.check('expired', seq === 2, () => `${session.id}: goes on with message ${seq}`);
}

/** False if nothing was changed. */
async function age(store: Store, { keyId, id }: Session): Promise<boolean> {
  const ref = conversationRef(keyId, id);
  try {
    const { result } = await transact(store, [ref], ([snapshot]) => {
      const current = Conversations.read(snapshot);
      if (current === undefined || current.turn !== null) return { writes: [], result: false };
      const usedMs = Date.parse(current.updated_at) - UNUSED_DAYS * DAY_MS;
      const expires_on = new Date(usedMs + RETENTION_DAYS * DAY_MS).toISOString().slice(0, 10);
      const aged = { ...current, updated_at: new Date(usedMs).toISOString(), expires_on };
      return { writes: [Conversations.write(ref, aged)], result: true };
    });
    return result;
  } catch (error) {
    // A fault of this time.
    if (toRpcError(error).reason === 'unavailable') return false;
    throw error;
  }
}

/** Reads an absent session in every way; a read that fails shows nothing. */
export async function checkAbsent(
  client: ConversationClient,
  instance: ConversationClient['fleet']['instances'][number],
  { id: session_id }: Session,
  turn_id: string,
  guarantee: 'expired' | 'erased' = 'expired',
): Promise<void> {
  const { checks } = client.journal;
  const read = async (method: string, params: object, isAbsent: (result: unknown, code: unknown) => boolean) => {
    const response = await call(client, instance, method, params);
    if (response === undefined || response.httpStatus !== 200) return;
    const detail = (): string =>
      `${session_id} on ${instance.name}, ${method}: ${JSON.stringify(response).slice(0, 300)}`;
    checks.check(guarantee, isAbsent(response.result, response.error?.code), detail);
  };
  const isMissing = (_: unknown, code: unknown): boolean => code === 404;
  await Promise.all([
    read('conversation.status', { session_id }, (result) => isObject(result) && result.status === 'not_found'),
    read('conversation.history', { session_id }, isMissing),
    read('conversation.resume', { session_id, turn_id }, isMissing),
    read('conversation.fork', { session_id }, isMissing),
    read('conversation.update', { session_id, title: 'absent' }, isMissing),
    read('conversation.list', { limit: 20 }, (result) => !JSON.stringify(result).includes(`"${session_id}"`)),
  ]);
}
