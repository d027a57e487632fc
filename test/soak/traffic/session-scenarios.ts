// Scenarios use what a session offers beside prompts: edits (after_seq), forks, titles and metadata, and several
// readers of one turn.
import { isDeepStrictEqual } from 'node:util';
import { isObject } from '../../../shared/json/json-object.ts';
import type { Json, Session } from '../journal/journal-records.ts';
import { call } from './call.ts';
import {
  type ConversationClient,
  callPrompt,
  followTurn,
  newPrompt,
  pickInstance,
  sendPrompt,
  withSession,
} from './conversation-client.ts';

const READERS = 5;
const MESSAGES_MAX = 200;

/** A prompt after an earlier message: the later ones are dropped. Some are sent twice under an idempotency key. */
export function editSession(client: ConversationClient): Promise<void> {
  const { random, journal } = client;
  return withSession(client, async (session) => {
    if (!session.exists) return;
    const prompt = newPrompt(client, { chunks: random.int(1, 20), everyMs: random.int(0, 30) });
    const afterSeq = random.int(0, 4);
    const options = { onBusy: random.pick(['reject', 'queue', 'interrupt']), afterSeq };
    journal.count('edits');
    if (random.chance(0.5)) await sendPrompt(client, pickInstance(client), session, prompt, options);
    else {
      const keyed = { ...options, key: `${prompt.nonce}k` };
      await callPrompt(client, pickInstance(client), session, prompt, keyed);
      if (random.chance(0.5)) await callPrompt(client, pickInstance(client), session, prompt, keyed);
    }
  });
}

/** A copy has the messages of its source, and goes on as a session of its own. */
export function forkSession(client: ConversationClient): Promise<void> {
  const { random, journal, open, keyId } = client;
  return withSession(client, async (session) => {
    // No other call changes the messages meanwhile.
    if (!session.exists || !isQuiet(client, session)) return;
    const before = await readMessages(client, session.id);
    if (before === undefined || before.length === 0) return;
    const toSeq = random.int(0, before.length);
    const id = `${keyId}s${++client.serial}`;
    const params = { session_id: session.id, to_seq: toSeq, new_session_id: id };
    const response = await call(client, pickInstance(client), 'conversation.fork', params);
    if (response?.result === undefined || !isQuiet(client, session)) return;
    const copied = await readMessages(client, id);
    const after = await readMessages(client, session.id);
    if (copied === undefined || !isDeepStrictEqual(before, after)) return;
    journal.count('forks');
    const isSame = isDeepStrictEqual(copied, before.slice(0, toSeq));
    journal.checks.check('forks', isSame, () => `${id} of ${session.id}, ${toSeq}: ${JSON.stringify(copied)}`);
    open.push(journal.openSession(keyId, id, { forkOf: session, copied }));
  });
}

/** No other scenario uses the session, and every prompt of it has its response. */
function isQuiet({ journal }: ConversationClient, session: Session): boolean {
  if (session.users > 1) return false;
  for (const sent of journal.prompts.values()) {
    if (sent.session === session && sent.settledAtMs === Number.POSITIVE_INFINITY) return false;
  }
  return true;
}

/** All messages, if one page holds them: what a fork copies of each. */
async function readMessages(client: ConversationClient, session_id: string): Promise<Json[] | undefined> {
  const params = { session_id, limit: MESSAGES_MAX };
  const response = await call(client, pickInstance(client), 'conversation.history', params);
  const { messages, next_cursor } = response?.result ?? {};
  if (!Array.isArray(messages) || next_cursor !== undefined) return undefined;
  return messages
    .filter(isObject)
    .map(({ seq, role, content, parts, model }) => ({ seq, role, content, parts, model }));
}

/** What a client sets on a session is read on every instance at once. */
export function updateSession(client: ConversationClient): Promise<void> {
  const { journal } = client;
  return withSession(client, async (session) => {
    if (!session.exists || session.users > 1) return;
    const title = `${session.id}t${++client.serial}`;
    const params = { session_id: session.id, title, metadata: { of: title } };
    session.title = undefined;
    const response = await call(client, pickInstance(client), 'conversation.update', params);
    if (response?.result === undefined || session.users > 1) return;
    session.title = title;
    journal.count('updates');
    const { result: status } =
      (await call(client, pickInstance(client), 'conversation.status', { session_id: session.id })) ?? {};
    const { result: list } =
      (await call(client, pickInstance(client), 'conversation.list', { metadata: { of: title } })) ?? {};
    if (session.users > 1) return;
    if (status !== undefined) {
      const found = isObject(status.metadata) ? status.metadata : {};
      const isRead = found.title === title && isDeepStrictEqual(found.metadata, { of: title });
      journal.checks.check('labels', isRead, () => `${session.id}: ${JSON.stringify(found)} instead of ${title}`);
    }
    if (list !== undefined) {
      const ids = Array.isArray(list.conversations)
        ? list.conversations.filter(isObject).map((one) => one.session_id)
        : [];
      const isListed = ids.length === 1 && ids[0] === session.id;
      journal.checks.check('labels', isListed, () => `${session.id}: ${title} lists ${ids.join()}`);
    }
  });
}

/** Several clients follow one turn, on every instance; the journal compares their events. */
export function followTogether(client: ConversationClient): Promise<void> {
  const { random, journal } = client;
  return withSession(client, async (session) => {
    const prompt = newPrompt(client, { chunks: random.int(20, 60), everyMs: random.int(10, 50) });
    const readers: Promise<void>[] = [];
    const { end, turnId, lastSeq } = await sendPrompt(client, pickInstance(client), session, prompt, {
      onEvent(_seq, id) {
        for (let reader = readers.length; reader < READERS; reader++) readers.push(followTurn(client, session, id, 0));
        return undefined;
      },
    });
    if (end.kind === 'broken' && turnId !== undefined) readers.push(followTurn(client, session, turnId, lastSeq));
    if (readers.length > 0) journal.count('turns with several readers');
    await Promise.all(readers);
  });
}
