// The ways a client talks: each is one small scene, chosen by chance, judged while it plays.
import { setTimeout as sleep } from 'node:timers/promises';
import { isObject } from '../../shared/client/events.ts';
import { call } from './call.ts';
import { look, newAsk, newSession, pickInstance, prompt, resume, type Talker, withSession } from './talker.ts';

type Scene = (talker: Talker) => Promise<void>;

const SLOW_READERS_MAX = 4;

/** Scenes by how often they are played. */
const SCENES: readonly (readonly [number, Scene])[] = [
  [4, plain],
  [3, streamed],
  [2, overSocket],
  [4, leaveAndResume],
  [3, cancelElsewhere],
  [2, duplicates],
  [4, ask],
  [3, probe],
  [1, slow],
];

export function playScene(talker: Talker): Promise<void> {
  let left = talker.random.int(
    1,
    SCENES.reduce((sum, [weight]) => sum + weight, 0),
  );
  for (const [weight, scene] of SCENES) {
    left -= weight;
    if (left <= 0) return scene(talker);
  }
  return plain(talker);
}

function plain(talker: Talker): Promise<void> {
  const { random, journal } = talker;
  return withSession(talker, async (session) => {
    const asked = newAsk(talker, { chunks: random.int(1, 20), everyMs: random.int(0, 30) });
    const on_busy = random.pick(['reject', 'queue', 'interrupt']);
    const params = { prompt: asked.prompt, session_id: session.id, on_busy };
    const reply = await call(talker, pickInstance(talker), 'conversation.prompt', params);
    if (reply !== undefined) journal.answer(session, asked, reply.result, reply.error);
  });
}

function streamed(talker: Talker): Promise<void> {
  return readAll(talker, false);
}

function overSocket(talker: Talker): Promise<void> {
  return readAll(talker, true);
}

/** Reads to the end; when the connection breaks, elsewhere. */
function readAll(talker: Talker, socket: boolean): Promise<void> {
  const { random } = talker;
  return withSession(talker, async (session) => {
    const asked = newAsk(talker, { chunks: random.int(5, 60), everyMs: random.int(5, 50) });
    const onBusy = random.pick(['reject', 'queue', 'interrupt']);
    const { end, turnId, lastSeq } = await prompt(talker, pickInstance(talker), session, asked, { onBusy, socket });
    if (end.kind === 'broken' && turnId !== undefined) await resume(talker, session, turnId, lastSeq);
  });
}

function leaveAndResume(talker: Talker): Promise<void> {
  const { random, journal } = talker;
  return withSession(talker, async (session) => {
    const asked = newAsk(talker, { chunks: random.int(20, 80), everyMs: random.int(10, 50) });
    const instance = pickInstance(talker);
    const leaveAt = random.int(1, 40);
    const { turnId, lastSeq, end } = await prompt(talker, instance, session, asked, {
      socket: random.chance(0.3),
      onEvent: (seq) => (seq >= leaveAt ? 'leave' : undefined),
    });
    if (turnId === undefined || end.kind === 'answer') return;
    journal.count('left in mid-stream');
    if (random.chance(0.5)) await sleep(random.int(0, 3_000));
    await resume(talker, session, turnId, lastSeq);
  });
}

function cancelElsewhere(talker: Talker): Promise<void> {
  const { random, journal } = talker;
  return withSession(talker, async (session) => {
    const asked = newAsk(talker, { chunks: 80, everyMs: random.int(20, 60) });
    const instance = pickInstance(talker);
    const cancelAt = random.int(1, 40);
    let cancelling: Promise<void> | undefined;
    const cancel = async (turnId: string): Promise<void> => {
      const reply = await call(talker, pickInstance(talker, instance), 'conversation.cancel', {
        session_id: session.id,
      });
      if (reply?.result?.cancelled !== true) return;
      journal.count('cancels');
      const status = await look(talker, pickInstance(talker), session, turnId);
      journal.checks.check('cancel', status !== 'running', () => `${turnId}: still runs after its cancel`);
    };
    const { end, turnId, lastSeq } = await prompt(talker, instance, session, asked, {
      onEvent(seq, id) {
        if (seq >= cancelAt) cancelling ??= cancel(id);
        return undefined;
      },
    });
    await cancelling;
    if (end.kind === 'broken' && turnId !== undefined) await resume(talker, session, turnId, lastSeq);
  });
}

/** The same idempotency key on several instances at once, and again afterwards. */
function duplicates(talker: Talker): Promise<void> {
  const { random, journal, fleet } = talker;
  return withSession(talker, async (session) => {
    const asked = newAsk(talker, { chunks: random.int(1, 30), everyMs: random.int(5, 30) });
    const params = {
      prompt: asked.prompt,
      session_id: session.id,
      on_busy: 'queue',
      idempotency_key: `${asked.nonce}k`,
    };
    const completed = new Set<string>();
    const send = async (): Promise<void> => {
      const reply = await call(talker, random.pick(fleet.instances), 'conversation.prompt', params);
      const turn = reply && journal.answer(session, asked, reply.result, reply.error);
      if (turn !== undefined) completed.add(turn.id);
    };
    await Promise.all([send(), send(), send()]);
    for (let attempt = 0; attempt < 3 && completed.size === 0; attempt++) {
      await sleep(random.int(500, 2_000));
      await send();
    }
    if (completed.size > 0) await send();
    journal.count('idempotency keys');
    const told = (): string => `${asked.nonce}: completed as ${[...completed].join(' and ')}`;
    journal.checks.check('idempotency', completed.size <= 1, told);
  });
}

function ask(talker: Talker): Promise<void> {
  return withSession(talker, async (session) => {
    const askedMs = performance.now();
    const reply = await call(talker, pickInstance(talker), 'conversation.status', { session_id: session.id });
    const turn = isObject(reply?.result?.turn) ? reply.result.turn : undefined;
    if (turn !== undefined)
      talker.journal.status(session, String(turn.turn_id), String(turn.status), 'status', askedMs);
  });
}

/** Another key's session must be answered as one that never was. */
async function probe(talker: Talker): Promise<void> {
  const { random, journal } = talker;
  const strangers = talker.strangers();
  if (strangers.length === 0) return;
  const { id } = random.pick(strangers);
  const missing = `missing${++talker.serial}`;
  const instance = pickInstance(talker);
  const method = random.pick(['status', 'history', 'resume', 'cancel', 'delete']);
  const answers = await Promise.all(
    [id, missing].map(async (session_id) => {
      const reply = await call(talker, instance, `conversation.${method}`, { session_id });
      if (reply === undefined || reply.httpStatus !== 200) return undefined;
      return JSON.stringify(reply)
        .replaceAll(session_id, '?')
        .replace(/"request_id":"[^"]*"/, '');
    }),
  );
  const [foreign, absent] = answers;
  if (foreign === undefined || absent === undefined) return;
  journal.checks.check('foreign', foreign === absent, () => `${method}: ${foreign} instead of ${absent}`);
}

/** A reader that stalls in the middle of an answer too large for any buffer. */
async function slow(talker: Talker): Promise<void> {
  const { random, journal, shared } = talker;
  if (shared.slowReaders >= SLOW_READERS_MAX) return plain(talker);
  shared.slowReaders++;
  try {
    const session = newSession(talker);
    const asked = newAsk(talker, { chunks: 60, everyMs: 5, padding: 40_000 });
    const stallAt = random.int(2, 20);
    // Longer than the gateway puts up with, now and then.
    const stallMs = random.chance(0.25) ? 34_000 : random.int(2_000, 8_000);
    const { end, turnId, lastSeq } = await prompt(talker, pickInstance(talker), session, asked, {
      socket: random.chance(0.5),
      onEvent: (seq) => (seq === stallAt ? sleep(stallMs).then(() => undefined) : undefined),
    });
    journal.count('slow readers');
    if (end.kind === 'broken' && turnId !== undefined) await resume(talker, session, turnId, lastSeq);
  } finally {
    shared.slowReaders--;
  }
}
