// The scenarios of a client with conversations, chosen at random and checked while they run.

import { setTimeout as sleep } from 'node:timers/promises';
import { isObject } from '../../../shared/json/json-object.ts';
import { call } from './call.ts';
import {
  type ConversationClient,
  callPrompt,
  followTurn,
  newPrompt,
  newSession,
  pickInstance,
  readTurnStatus,
  sendPrompt,
  withSession,
} from './conversation-client.ts';
import { expireSession } from './retention-scenarios.ts';
import { editSession, followTogether, forkSession, updateSession } from './session-scenarios.ts';

type Scenario = (client: ConversationClient) => Promise<void>;

const SLOW_READERS_MAX = 4;

/** Scenarios with their weights. */
const SCENARIOS: readonly (readonly [number, Scenario])[] = [
  [4, promptOverHttp],
  [3, promptOverSse],
  [2, promptOverWebSocket],
  [4, disconnectAndResume],
  [3, cancelOnAnotherInstance],
  [2, repeatIdempotencyKey],
  [4, readStatus],
  [3, probeForeignSession],
  [1, stallReader],
  [2, runCommand],
  [4, editSession],
  [2, forkSession],
  [2, updateSession],
  [1, expireSession],
  [2, followTogether],
];

export function runScenario(client: ConversationClient): Promise<void> {
  let remaining = client.random.int(
    1,
    SCENARIOS.reduce((sum, [weight]) => sum + weight, 0),
  );
  for (const [weight, scenario] of SCENARIOS) {
    remaining -= weight;
    if (remaining <= 0) return scenario(client);
  }
  return promptOverHttp(client);
}

/** Longer than a command, its wait for a slot, and the 35 s after which a lost connection is over. */
const COMMAND_MS_MAX = 40_000;

/** A command that is found in its output whole, or ends with an error that says whether it may have had an effect. */
async function runCommand(client: ConversationClient): Promise<void> {
  const { journal, random, keyId } = client;
  const mark = `${keyId}c${++client.serial}`;
  const startedMs = performance.now();
  const script = `echo ${mark}; sleep 0.${random.int(0, 9)}; echo ${mark}`;
  const response = await call(client, pickInstance(client), 'exec', { command: 'sh', args: ['-c', script] });
  const tookMs = performance.now() - startedMs;
  // Its instance was killed.
  if (response === undefined) return;
  const { result, error } = response;
  const data = isObject(error?.data) ? error.data : {};
  const isWhole = result?.stdout === `${mark}\n${mark}\n` && result.exit_code === 0;
  const isSaid = typeof data.may_have_effect === 'boolean' || data.retryable === true;
  journal.count(result !== undefined ? 'commands' : `commands failed, may have had an effect: ${data.may_have_effect}`);
  const detail = (): string => `${mark}: ${Math.round(tookMs)} ms, ${JSON.stringify(result ?? error).slice(0, 300)}`;
  journal.checks.check('commands', (isWhole || isSaid) && tookMs < COMMAND_MS_MAX, detail);
}

function promptOverHttp(client: ConversationClient): Promise<void> {
  const { random } = client;
  return withSession(client, async (session) => {
    const prompt = newPrompt(client, { chunks: random.int(1, 20), everyMs: random.int(0, 30) });
    const onBusy = random.pick(['reject', 'queue', 'interrupt']);
    await callPrompt(client, pickInstance(client), session, prompt, { onBusy });
  });
}

function promptOverSse(client: ConversationClient): Promise<void> {
  return readToEnd(client, false);
}

function promptOverWebSocket(client: ConversationClient): Promise<void> {
  return readToEnd(client, true);
}

/** Reads a turn to its end; resumes on another instance when the connection breaks. */
function readToEnd(client: ConversationClient, socket: boolean): Promise<void> {
  const { random } = client;
  return withSession(client, async (session) => {
    const prompt = newPrompt(client, { chunks: random.int(5, 60), everyMs: random.int(5, 50) });
    const onBusy = random.pick(['reject', 'queue', 'interrupt']);
    const { end, turnId, lastSeq } = await sendPrompt(client, pickInstance(client), session, prompt, {
      onBusy,
      socket,
    });
    if (end.kind === 'broken' && turnId !== undefined) await followTurn(client, session, turnId, lastSeq);
  });
}

function disconnectAndResume(client: ConversationClient): Promise<void> {
  const { random, journal } = client;
  return withSession(client, async (session) => {
    const prompt = newPrompt(client, { chunks: random.int(20, 80), everyMs: random.int(10, 50) });
    const instance = pickInstance(client);
    const leaveAt = random.int(1, 40);
    const { turnId, lastSeq, end } = await sendPrompt(client, instance, session, prompt, {
      socket: random.chance(0.3),
      onEvent: (seq) => (seq >= leaveAt ? 'leave' : undefined),
    });
    if (turnId === undefined || end.kind === 'response') return;
    journal.count('disconnects in mid-stream');
    if (random.chance(0.5)) await sleep(random.int(0, 3_000));
    await followTurn(client, session, turnId, lastSeq);
  });
}

function cancelOnAnotherInstance(client: ConversationClient): Promise<void> {
  const { random, journal } = client;
  return withSession(client, async (session) => {
    const prompt = newPrompt(client, { chunks: 80, everyMs: random.int(20, 60) });
    const instance = pickInstance(client);
    const cancelAt = random.int(1, 40);
    let cancelling: Promise<void> | undefined;
    const cancel = async (turnId: string): Promise<void> => {
      const response = await call(client, pickInstance(client, instance), 'conversation.cancel', {
        session_id: session.id,
      });
      if (response?.result?.cancelled !== true) return;
      journal.count('cancels');
      const status = await readTurnStatus(client, pickInstance(client), session, turnId);
      journal.checks.check('cancel', status !== 'running', () => `${turnId}: still running after its cancel`);
    };
    const { end, turnId, lastSeq } = await sendPrompt(client, instance, session, prompt, {
      onEvent(seq, id) {
        if (seq >= cancelAt) cancelling ??= cancel(id);
        return undefined;
      },
    });
    await cancelling;
    if (end.kind === 'broken' && turnId !== undefined) await followTurn(client, session, turnId, lastSeq);
  });
}

/** The same idempotency key on several instances at once, and again afterwards. */
function repeatIdempotencyKey(client: ConversationClient): Promise<void> {
  const { random, journal, fleet } = client;
  return withSession(client, async (session) => {
    const prompt = newPrompt(client, { chunks: random.int(1, 30), everyMs: random.int(5, 30) });
    const options = { onBusy: 'queue', key: `${prompt.nonce}k` };
    const completed = new Set<string>();
    const send = async (): Promise<void> => {
      const turn = await callPrompt(client, random.pick(fleet.instances), session, prompt, options);
      if (turn !== undefined) completed.add(turn.id);
    };
    await Promise.all([send(), send(), send()]);
    for (let attempt = 0; attempt < 3 && completed.size === 0; attempt++) {
      await sleep(random.int(500, 2_000));
      await send();
    }
    if (completed.size > 0) await send();
    journal.count('idempotency keys');
    const detail = (): string => `${prompt.nonce}: completed as ${[...completed].join(' and ')}`;
    journal.checks.check('idempotency', completed.size <= 1, detail);
  });
}

function readStatus(client: ConversationClient): Promise<void> {
  return withSession(client, async (session) => {
    const requestedMs = performance.now();
    const response = await call(client, pickInstance(client), 'conversation.status', { session_id: session.id });
    const turn = isObject(response?.result?.turn) ? response.result.turn : undefined;
    if (turn !== undefined)
      client.journal.recordStatus(session, String(turn.turn_id), String(turn.status), 'status', requestedMs);
  });
}

/** A session of another key must get the same response as one that does not exist. */
async function probeForeignSession(client: ConversationClient): Promise<void> {
  const { random, journal } = client;
  const foreignSessions = client.foreignSessions();
  if (foreignSessions.length === 0) return;
  const { id } = random.pick(foreignSessions);
  const missing = `missing${++client.serial}`;
  const instance = pickInstance(client);
  const method = random.pick(['status', 'history', 'resume', 'cancel', 'delete']);
  const responses = await Promise.all(
    [id, missing].map(async (session_id) => {
      const response = await call(client, instance, `conversation.${method}`, { session_id });
      if (response === undefined || response.httpStatus !== 200) return undefined;
      return JSON.stringify(response)
        .replaceAll(session_id, '?')
        .replace(/"request_id":"[^"]*"/, '');
    }),
  );
  const [foreign, absent] = responses;
  if (foreign === undefined || absent === undefined) return;
  journal.checks.check('foreign', foreign === absent, () => `${method}: ${foreign} instead of ${absent}`);
}

/** Stops reading for a while in the middle of an answer that is too large for any buffer. */
async function stallReader(client: ConversationClient): Promise<void> {
  const { random, journal, shared } = client;
  if (shared.slowReaders >= SLOW_READERS_MAX) return promptOverHttp(client);
  shared.slowReaders++;
  try {
    const session = newSession(client);
    const prompt = newPrompt(client, { chunks: 60, everyMs: 5, padding: 40_000 });
    const stallAt = random.int(2, 20);
    // A quarter of them is longer than the gateway's deadline for a reader.
    const stallMs = random.chance(0.25) ? 34_000 : random.int(2_000, 8_000);
    const { end, turnId, lastSeq } = await sendPrompt(client, pickInstance(client), session, prompt, {
      socket: random.chance(0.5),
      onEvent: (seq) => (seq === stallAt ? sleep(stallMs).then(() => undefined) : undefined),
    });
    journal.count('slow readers');
    if (end.kind === 'broken' && turnId !== undefined) await followTurn(client, session, turnId, lastSeq);
  } finally {
    shared.slowReaders--;
  }
}
