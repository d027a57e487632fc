// A client that has conversations: its dependencies, and the steps of which the scenarios (conversation-scenarios.ts)
// consist.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from '../../support/random.ts';
import type { Fleet, Instance } from '../fleet/fleet.ts';
import { checkAnswer, checkFailure } from '../journal/answers.ts';
import type { Json, Session, Turn } from '../journal/journal-records.ts';
import { createPrompt, type Prompt, type PromptShape, withExtras } from '../journal/prompts.ts';
import type { ProviderLog } from '../journal/provider-log.ts';
import { type Client, call, type RpcResponse } from './call.ts';
import { type OnEvent, type StreamOutcome, socketStream, stream } from './stream.ts';

export interface ConversationClient extends Client {
  readonly fleet: Fleet;
  readonly random: Random;
  readonly providerLog: ProviderLog;
  /** Sessions that scenarios still use. */
  readonly open: Session[];
  /** Sessions of other keys, which it must not be able to read. */
  readonly foreignSessions: () => readonly Session[];
  /** Numbers its sessions, prompts and idempotency keys. */
  serial: number;
  /** Counters of all clients together. */
  readonly shared: { slowReaders: number };
}

/** Longer than the lease of a lost owner (30 s) and the seconds until another instance ends its turn. */
const FOLLOW_MS = 75_000;
const OPEN_SESSIONS_MAX = 3;
const PROMPTS_MAX = 8;
const DELETE_PROBABILITY = 0.3;
const RETRY_MS = 500;

export function pickInstance({ fleet, random }: ConversationClient, not?: Instance): Instance {
  return random.pick(fleet.instances.filter((instance) => instance !== not));
}

export function newPrompt(client: ConversationClient, shape: PromptShape): Prompt {
  const whole = { ...shape, json: shape.padding === undefined && client.random.chance(0.15) };
  return withExtras(createPrompt(`${client.keyId}n${++client.serial}`, whole), whole, client.random);
}

export function newSession(client: ConversationClient): Session {
  return client.journal.openSession(client.keyId, `${client.keyId}s${++client.serial}`);
}

/** Runs `use` with a session. A session that had PROMPTS_MAX of them is closed, and some of those are deleted. */
export async function withSession(client: ConversationClient, use: (session: Session) => Promise<void>): Promise<void> {
  const { open, random } = client;
  while (open.length < OPEN_SESSIONS_MAX) open.push(newSession(client));
  const session = random.pick(open);
  session.users++;
  try {
    await use(session);
  } finally {
    session.users--;
    if (++session.prompts >= PROMPTS_MAX && open.includes(session)) open.splice(open.indexOf(session), 1);
    // Deleted only when no other scenario uses it.
    if (
      session.users === 0 &&
      !open.includes(session) &&
      session.deleted === 'no' &&
      random.chance(DELETE_PROBABILITY)
    ) {
      await deleteSession(client, session);
    }
  }
}

async function deleteSession(client: ConversationClient, session: Session): Promise<void> {
  session.deleted = 'maybe';
  for (let attempt = 0; attempt < 5; attempt++) {
    const response = await call(client, pickInstance(client), 'conversation.delete', { session_id: session.id });
    if (response?.result !== undefined) {
      session.deleted = 'yes';
      client.journal.count('sessions deleted');
      return;
    }
    await sleep(RETRY_MS);
  }
}

/** Records the response of a prompt and checks it; returns the completed turn. */
function recordAnswer(
  { journal, providerLog }: ConversationClient,
  session: Session,
  prompt: Prompt,
  { result, error }: Pick<RpcResponse, 'result' | 'error'>,
): Turn | undefined {
  if (result !== undefined) checkAnswer(journal, providerLog, prompt, result);
  if (error !== undefined) checkFailure(journal, providerLog, prompt, error);
  return journal.recordAnswer(session, prompt, result, error);
}

export interface CallOptions {
  readonly onBusy?: string;
  readonly afterSeq?: number | undefined;
  /** Sent again with the same prompt. */
  readonly key?: string;
}

function toParams(session: Session, prompt: Prompt, { onBusy = 'reject', afterSeq, key }: CallOptions): Json {
  return {
    ...prompt.params,
    session_id: session.id,
    on_busy: onBusy,
    ...(afterSeq !== undefined && { after_seq: afterSeq }),
    ...(key !== undefined && { idempotency_key: key }),
  };
}

/** Sends a prompt without a stream and records its answer; returns the completed turn. */
export async function callPrompt(
  client: ConversationClient,
  instance: Instance,
  session: Session,
  prompt: Prompt,
  options: CallOptions = {},
): Promise<Turn | undefined> {
  const { journal } = client;
  const params = toParams(session, prompt, options);
  const sent = journal.recordPrompt(session, prompt, options.afterSeq);
  const response = await call(client, instance, 'conversation.prompt', params);
  journal.recordSettled(sent, response !== undefined);
  if (response === undefined) return undefined;
  const turn = recordAnswer(client, session, prompt, response);
  if (turn !== undefined && options.key !== undefined && response.result !== undefined) {
    journal.answeredKeys.push({ session, params, result: response.result });
  }
  return turn;
}

/** Sends a prompt over a stream and records its events and its answer. */
export async function sendPrompt(
  client: ConversationClient,
  instance: Instance,
  session: Session,
  prompt: Prompt,
  options: CallOptions & { readonly socket?: boolean; readonly onEvent?: OnEvent } = {},
): Promise<{ readonly end: StreamOutcome; readonly turnId: string | undefined; readonly lastSeq: number }> {
  let turnId: string | undefined;
  let lastSeq = 0;
  const send = options.socket === true ? socketStream : stream;
  const sent = client.journal.recordPrompt(session, prompt, options.afterSeq);
  const end = await send(client, instance, {
    method: 'conversation.prompt',
    params: toParams(session, prompt, options),
    session,
    onEvent(seq, id) {
      lastSeq = seq;
      turnId = id;
      return options.onEvent?.(seq, id);
    },
  });
  client.journal.recordSettled(sent, end.kind === 'response');
  if (end.kind === 'response') {
    const turn = recordAnswer(client, session, prompt, end.response);
    if (turn !== undefined) {
      client.journal.checks.check('ends', turn.isEndReceived, () => `${turn.id}: answered before its end`);
    }
  }
  return { end, turnId, lastSeq };
}

/** Resumes a turn on any instance until its end, each time after the last event that arrived. */
export async function followTurn(
  client: ConversationClient,
  session: Session,
  turnId: string,
  afterSeq: number,
): Promise<void> {
  const { journal, random } = client;
  let last = afterSeq;
  for (const giveUpMs = performance.now() + FOLLOW_MS; performance.now() < giveUpMs; ) {
    const byHeader = random.chance(0.5);
    const send = random.chance(0.3) ? socketStream : stream;
    const params =
      byHeader && send === stream
        ? { session_id: session.id }
        : { session_id: session.id, turn_id: turnId, after_seq: last };
    const end = await send(client, pickInstance(client), {
      method: 'conversation.resume',
      params,
      session,
      afterSeq: last,
      headers: { 'last-event-id': `${turnId}:${last}` },
      onEvent(seq) {
        last = seq;
        return undefined;
      },
    });
    journal.count('resumed');
    const { result, error } = end.response ?? {};
    if (result !== undefined) {
      const turn: Turn = journal.recordStatus(session, turnId, String(result.status), 'resume');
      journal.checks.check('ends', turn.isEndReceived, () => `${turnId}: resumed without its end`);
      return;
    }
    // An owner may be erased while its turns are followed.
    const isFound = error?.code !== 404 || session.deleted !== 'no';
    journal.checks.check('streams', isFound, () => `${turnId}: not found when resumed`);
    if (error?.code === 404) return;
    await sleep(RETRY_MS);
  }
  journal.count('turns whose end was not reached');
}

/** The state of a turn on this instance; undefined when the call fails. */
export async function readTurnStatus(client: ConversationClient, instance: Instance, session: Session, turnId: string) {
  const requestedMs = performance.now();
  const response = await call(client, instance, 'conversation.resume', { session_id: session.id, turn_id: turnId });
  if (response?.result === undefined) return undefined;
  const status = String(response.result.status);
  client.journal.recordStatus(session, turnId, status, 'lookup', requestedMs);
  return status;
}
