// A client that holds conversations: what it needs to do so, and the steps that its ways of talking (talk.ts) are made
// of.
import { setTimeout as sleep } from 'node:timers/promises';
import { type Client, call } from './call.ts';
import type { Fleet, Instance } from './fleet.ts';
import type { Session, Turn } from './journal.ts';
import { type Ask, type AskShape, createAsk } from './prompts.ts';
import type { Random } from './random.ts';
import { type OnEvent, type StreamEnd, socketStream, stream } from './stream.ts';

export interface Talker extends Client {
  readonly fleet: Fleet;
  readonly random: Random;
  /** Sessions that still take prompts. */
  readonly open: Session[];
  /** Sessions of other keys, to try. */
  readonly strangers: () => readonly Session[];
  /** Numbers its sessions, prompts and idempotency keys. */
  serial: number;
  /** Of all clients together. */
  readonly shared: { slowReaders: number };
}

/** A lost owner's lease is 30 s; what follows it takes seconds. */
const FOLLOW_MS = 75_000;
const OPEN_MAX = 3;
const PROMPTS_MAX = 8;
const DELETED = 0.3;
const RETRY_MS = 500;

export function pickInstance({ fleet, random }: Talker, not?: Instance): Instance {
  return random.pick(fleet.instances.filter((instance) => instance !== not));
}

export function newAsk(talker: Talker, shape: AskShape): Ask {
  return createAsk(`${talker.keyId}n${++talker.serial}`, shape);
}

export function newSession(talker: Talker): Session {
  return talker.journal.open(talker.keyId, `${talker.keyId}s${++talker.serial}`);
}

/** Lends a session; afterwards one that has been used enough is closed, and some of those are deleted. */
export async function withSession(talker: Talker, use: (session: Session) => Promise<void>): Promise<void> {
  const { open, random } = talker;
  while (open.length < OPEN_MAX) open.push(newSession(talker));
  const session = random.pick(open);
  session.users++;
  try {
    await use(session);
  } finally {
    session.users--;
    if (++session.prompts >= PROMPTS_MAX && open.includes(session)) open.splice(open.indexOf(session), 1);
    // The last one out: nobody else still talks in it.
    if (session.users === 0 && !open.includes(session) && session.deleted === 'no' && random.chance(DELETED)) {
      await deleteSession(talker, session);
    }
  }
}

async function deleteSession(talker: Talker, session: Session): Promise<void> {
  session.deleted = 'maybe';
  for (let attempt = 0; attempt < 5; attempt++) {
    const reply = await call(talker, pickInstance(talker), 'conversation.delete', { session_id: session.id });
    if (reply?.result !== undefined) {
      session.deleted = 'yes';
      talker.journal.count('sessions deleted');
      return;
    }
    await sleep(RETRY_MS);
  }
}

/** Sends a prompt over a stream and journals its events and its answer. */
export async function prompt(
  talker: Talker,
  instance: Instance,
  session: Session,
  ask: Ask,
  options: { readonly onBusy?: string; readonly socket?: boolean; readonly onEvent?: OnEvent } = {},
): Promise<{ readonly end: StreamEnd; readonly turnId: string | undefined; readonly lastSeq: number }> {
  let turnId: string | undefined;
  let lastSeq = 0;
  const send = options.socket === true ? socketStream : stream;
  const end = await send(talker, instance, {
    method: 'conversation.prompt',
    params: { prompt: ask.prompt, session_id: session.id, on_busy: options.onBusy ?? 'reject' },
    session,
    onEvent(seq, id) {
      lastSeq = seq;
      turnId = id;
      return options.onEvent?.(seq, id);
    },
  });
  if (end.kind === 'answer') {
    const { result, error } = end.reply;
    const turn = talker.journal.answer(session, ask, result, error);
    if (turn !== undefined) {
      talker.journal.checks.check('ends', turn.endSeen, () => `${turn.id}: answered before its end`);
    }
  }
  return { end, turnId, lastSeq };
}

/** Follows a turn on other instances until it has ended; what was cut is taken up where it stopped. */
export async function resume(talker: Talker, session: Session, turnId: string, afterSeq: number): Promise<void> {
  const { journal, random } = talker;
  let last = afterSeq;
  for (const giveUpMs = performance.now() + FOLLOW_MS; performance.now() < giveUpMs; ) {
    const byHeader = random.chance(0.5);
    const send = random.chance(0.3) ? socketStream : stream;
    const params =
      byHeader && send === stream
        ? { session_id: session.id }
        : { session_id: session.id, turn_id: turnId, after_seq: last };
    const end = await send(talker, pickInstance(talker), {
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
    const { result, error } = end.reply ?? {};
    if (result !== undefined) {
      const turn: Turn = journal.status(session, turnId, String(result.status), 'resume');
      journal.checks.check('ends', turn.endSeen, () => `${turnId}: resumed without its end`);
      return;
    }
    journal.checks.check('streams', error?.code !== 404, () => `${turnId}: not found when resumed`);
    if (error?.code === 404) return;
    await sleep(RETRY_MS);
  }
  journal.count('turns given up following');
}

/** A turn by its id, as any instance tells it; undefined when none could. */
export async function look(talker: Talker, instance: Instance, session: Session, turnId: string) {
  const askedMs = performance.now();
  const reply = await call(talker, instance, 'conversation.resume', { session_id: session.id, turn_id: turnId });
  if (reply?.result === undefined) return undefined;
  const status = String(reply.result.status);
  talker.journal.status(session, turnId, status, 'look', askedMs);
  return status;
}
