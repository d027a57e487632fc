// An owner uses sessions, exports all of it and erases it while turns run, again and again, with the same session ids.
// The scan after the run finds what is left in the store.
import { setTimeout as sleep } from 'node:timers/promises';
import { isObject } from '../../../shared/json/json-object.ts';
import type { Session } from '../journal/journal-records.ts';
import { call } from './call.ts';
import {
  type ConversationClient,
  callPrompt,
  followTurn,
  newPrompt,
  pickInstance,
  sendPrompt,
} from './conversation-client.ts';
import { checkAbsent } from './retention-scenarios.ts';

const SESSIONS = 3;
const PROMPTS = 6;
/** Longer than a lease of a lost instance, and the outages of the store. */
const ERASED_WITHIN_MS = 150_000;
const AGAIN_MS = 1_000;

export async function useAndErase(client: ConversationClient): Promise<void> {
  const { random, journal, keyId } = client;
  const sessions = Array.from({ length: SESSIONS }, (_, index) => journal.openSession(keyId, `${keyId}s${index + 1}`));
  for (let count = 0; count < PROMPTS; count++) {
    const prompt = newPrompt(client, { chunks: random.int(1, 20), everyMs: random.int(0, 20) });
    await callPrompt(client, pickInstance(client), random.pick(sessions), prompt, { onBusy: 'queue' });
  }
  await checkExport(client, sessions);
  for (const session of sessions) session.deleted = 'maybe';
  // Turns that run while the owner is erased, and a prompt that waits for one of them.
  const running = sessions.map(async (session) => {
    const prompt = newPrompt(client, { chunks: 60, everyMs: 40 });
    const { end, turnId, lastSeq } = await sendPrompt(client, pickInstance(client), session, prompt, {
      onBusy: 'queue',
    });
    if (end.kind === 'broken' && turnId !== undefined) await followTurn(client, session, turnId, lastSeq);
  });
  await sleep(random.int(0, 1_500));
  await call(client, pickInstance(client), 'owner.erase', { confirm: keyId });
  await Promise.all(running);
  await sleep(random.int(0, 500));
  await eraseOwner(client, sessions);
}

/** Erases until it is done, and returns whether it was; `sessions` are absent then. */
export async function eraseOwner(client: ConversationClient, sessions: readonly Session[]): Promise<boolean> {
  const { journal, keyId, fleet } = client;
  let last: unknown;
  for (const giveUpMs = performance.now() + ERASED_WITHIN_MS; performance.now() < giveUpMs; ) {
    const response = await call(client, pickInstance(client), 'owner.erase', { confirm: keyId });
    if (response?.result?.done !== true) {
      last = response?.result ?? response?.error;
      await sleep(AGAIN_MS);
      continue;
    }
    journal.count('owners erased');
    for (const session of sessions) {
      Object.assign(session, { deleted: 'yes', gone: 'erased', isReused: true });
    }
    for (const instance of fleet.instances) {
      for (const session of sessions) {
        const turn = [...journal.turns.values()].find((each) => each.session === session);
        await checkAbsent(client, instance, session, turn?.id ?? 'none', 'erased');
      }
    }
    return true;
  }
  // A call without a result shows only that the store or an instance is away; the audit erases the owner again.
  const isOutage = !isObject(last) || !('done' in last);
  const detail = (): string => `${keyId}, ${ERASED_WITHIN_MS / 1_000} s after the first call: ${JSON.stringify(last)}`;
  journal.checks.check('erased', isOutage, detail);
  if (isOutage) journal.count('erasures without a result');
  return false;
}

/** The export has every acknowledged prompt and answer, and nothing of another owner. */
async function checkExport(client: ConversationClient, sessions: readonly Session[]): Promise<void> {
  const { journal, keyId, random } = client;
  const acknowledged = [...journal.turns.values()].filter(
    ({ session, answer }) => answer !== undefined && sessions.includes(session),
  );
  let text = '';
  for (let cursor: unknown; ; ) {
    const params = { limit: random.int(5, 50), ...(cursor !== undefined && { cursor }) };
    const page = (await call(client, pickInstance(client), 'owner.export', params))?.result;
    // An instance is away; the next erasure comes all the same.
    if (page === undefined) return;
    text += String(page.ndjson);
    cursor = page.next_cursor;
    if (cursor === undefined) break;
  }
  journal.count('exports');
  const items = text.trimEnd().split('\n');
  for (const { id, answer } of acknowledged) {
    const found = items.filter((line) => line.includes('"type":"message"') && line.includes(`"turn_id":"${id}"`));
    const isWhole = found.length === 2 && found.some((line) => line.includes(JSON.stringify(answer)));
    journal.checks.check('export', isWhole, () => `${id} is ${found.join().slice(0, 300)}`);
  }
  const foreign = Array.from(text.matchAll(/soakprompt (key\d+)n/g), ([, owner]) => owner).find(
    (owner) => owner !== keyId,
  );
  journal.checks.check('export', foreign === undefined, () => `${keyId} has a message of ${foreign}`);
}
