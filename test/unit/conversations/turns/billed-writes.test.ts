// A running turn is written rarely while only its own instance reads it, and every second while another instance
// follows it. Time is simulated.
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { randomIds, systemClock } from '../../../../shared/clock.ts';
import { loadConfig } from '../../../../shared/config/load-config.ts';
import { type Conversations, createConversations } from '../../../../shared/conversations/conversations.ts';
import { Turns } from '../../../../shared/conversations/records/turn-documents.ts';
import type { Engine } from '../../../../shared/engines/engine.ts';
import { createLogger } from '../../../../shared/log.ts';
import { createEmbeddedStore } from '../../../../shared/store/embedded/embedded.ts';
import type { Store } from '../../../../shared/store/store.ts';
import { NO_USAGE } from '../../../../shared/usage.ts';
import { COSTS } from '../../../support/documents/cost-table.ts';
import { type Counted, countOperations } from '../../../support/fixtures/limiter/rate-limit.ts';

/** The model yields a piece this often. */
const PIECE_MS = 250;
const model = 'offline/echo';

let store: Store;
let pieces = 0;
const engine: Engine = {
  async *run() {
    for (let piece = 0; piece < pieces; piece++) {
      await new Promise((resolve) => setTimeout(resolve, PIECE_MS));
      yield { AgentMessageDelta: { delta: `${piece} ` } };
    }
    return { content: '', usage: { ...NO_USAGE, total_tokens: 1 }, model, finishReason: 'stop' };
  },
};

beforeEach(() => {
  vi.useFakeTimers({
    toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date', 'performance'],
  });
  store = createEmbeddedStore({ path: ':memory:', clock: systemClock });
});
afterEach(async () => {
  vi.useRealTimers();
  await store.close();
});

function start(): { readonly conversations: Conversations; readonly counted: Counted } {
  const counted = countOperations(store);
  const conversations = createConversations({
    config: loadConfig({}),
    store: counted,
    engines: {
      defaultModel: model,
      resolve: () => ({ engine, model }),
      usable: () => ({ models: [model], defaultModel: model }),
    },
    clock: systemClock,
    ids: randomIds,
    log: createLogger({ format: 'json', write: () => {} }),
  });
  return { conversations, counted };
}

async function prompt(conversations: Conversations, seconds: number, sessionId: string | undefined = 's') {
  pieces = (seconds * 1_000) / PIECE_MS;
  return conversations.prompt(
    {
      owner: 'alice',
      prompt: 'hello',
      sessionId,
      model,
      instructions: undefined,
      onBusy: 'reject',
      idempotencyKey: undefined,
    },
    new AbortController().signal,
  );
}

/** Runs a turn to its end. */
async function answer(conversations: Conversations, seconds: number, sessionId?: string): Promise<void> {
  const { done } = await prompt(conversations, seconds, sessionId);
  await vi.advanceTimersByTimeAsync(seconds * 1_000);
  await done;
  await conversations.ledger.flush();
}

/** Seq of the last stored event. */
async function storedSeq(turnId: string): Promise<number> {
  const [record] = await store.get([Turns.ref(turnId)]);
  return Turns.read(record)?.seq ?? 0;
}

/** Documents that a watch delivers are billed as reads. */
function countWatched(counted: Counted): { documents: number } {
  const watched = { documents: 0 };
  const { watch } = counted;
  counted.watch = (ref, listener, onError) =>
    watch(
      ref,
      (snapshot) => {
        watched.documents++;
        listener(snapshot);
      },
      onError,
    );
  return watched;
}

it.each([
  [5, 6, COSTS.prompt],
  [60, 20, COSTS.minute],
])('most turns of %i seconds in a session of some length cost at most %i writes', async (seconds, writesMax, cost) => {
  const { conversations, counted } = start();
  const watched = countWatched(counted);
  for (let turn = 0; turn < 20; turn++) await answer(conversations, 1);
  const costs: number[] = [];
  watched.documents = 0;
  for (let turn = 0; turn < 9; turn++) {
    counted.reset();
    await answer(conversations, seconds);
    // The limiter counts the call in one more. Some turns also move older messages, or add to the owner's total.
    costs.push(1 + [...counted.byCollection.values()].reduce((sum, each) => sum + each.writes, 0));
  }
  costs.sort((x, y) => x - y);
  expect(costs[4]).toBeLessThanOrEqual(writesMax);
  expect(costs[8]).toBeLessThanOrEqual(writesMax + 2);
  // The table names the turns that neither move messages nor add to the total.
  expect(cost).toMatchObject({ writes: { count: costs[0] }, reads: { count: watched.documents / costs.length } });
});

it('a turn of 5 seconds in a new session costs one write more, which the table of prices has', async () => {
  const { conversations, counted } = start();
  await answer(conversations, 1);
  counted.reset();
  await answer(conversations, 5, 'new');
  expect(1 + counted.operations.commits).toBe(COSTS.newSession.writes.count);
  expect(COSTS.newSession.writes.count).toBe(COSTS.prompt.writes.count + 1);
});

it('a reader on another instance costs as much as the table of prices says', async () => {
  const [a, b] = [start(), start()];
  for (let turn = 0; turn < 20; turn++) await answer(a.conversations, 1);
  const alone = await countTurn(a);
  const watched = [countWatched(a.counted), countWatched(b.counted)];
  const together = await countTurn(a, b);
  const reads = together.reads + watched.reduce((sum, { documents }) => sum + documents, 0);
  // The watch for a cancel belongs to the prompt; the limiter counts the call of the reader in one write.
  expect(COSTS.resume.writes.count).toBe(1 + together.writes - alone.writes);
  expect(COSTS.resume.reads.count).toBe(reads - COSTS.prompt.reads.count);
});

it('200 readers on another instance share one watch and one set of reads', async () => {
  const count = async (readers: number) => {
    const [a, b] = [start(), start()];
    for (let turn = 0; turn < 20; turn++) await answer(a.conversations, 1);
    const watched = countWatched(b.counted);
    return { ...(await countTurn(a, b, readers)), watched: watched.documents };
  };
  const [one, many] = [await count(1), await count(200)];
  expect(many.watched).toBe(one.watched);
  // Each reads the session; the limiter counts its call in one write.
  expect(many.reads - one.reads).toBe(199 * COSTS.follower.reads.count);
  expect(many.writes - one.writes + 199).toBe(199 * COSTS.follower.writes.count);
});

type Instance = ReturnType<typeof start>;

/** Operations of both instances for a turn of 5 seconds, which clients of `reader` follow from its start. */
async function countTurn(owner: Instance, reader?: Instance, readers = 1) {
  const counts = [owner, ...(reader === undefined ? [] : [reader])].map(({ counted }) => counted);
  for (const counted of counts) counted.reset();
  const { done } = await prompt(owner.conversations, 5);
  await vi.advanceTimersByTimeAsync(100);
  const followed = await Promise.all(
    Array.from({ length: reader === undefined ? 0 : readers }, () =>
      reader?.conversations.resume('alice', 's', undefined, new AbortController().signal),
    ),
  );
  await vi.advanceTimersByTimeAsync(5_000);
  await Promise.all([done, ...followed.map((each) => each?.done)]);
  await owner.conversations.ledger.flush();
  const all = counts.flatMap(({ byCollection }) =>
    [...byCollection].filter(([name]) => !/storage|messages/.test(name)),
  );
  return {
    reads: all.reduce((sum, [, count]) => sum + count.reads, 0),
    writes: all.reduce((sum, [, count]) => sum + count.writes, 0),
  };
}

it('a crash loses at most 2 seconds of text at first, and 10 seconds of a long turn', async () => {
  const { conversations } = start();
  const { turnId } = await prompt(conversations, 120);
  const unwrittenMs = [];
  for (let piece = 1; piece < 400; piece++) {
    await vi.advanceTimersByTimeAsync(PIECE_MS);
    // TaskStarted is the first event.
    unwrittenMs.push((piece + 1 - (await storedSeq(turnId))) * PIECE_MS);
  }
  expect(Math.max(...unwrittenMs.slice(0, 8))).toBeLessThanOrEqual(2_000 + PIECE_MS);
  expect(Math.max(...unwrittenMs)).toBeLessThanOrEqual(10_000 + PIECE_MS);
});

it('a turn that another instance follows is written every second, and again rarely when its readers have left', async () => {
  const [a, b] = [start(), start()];
  const { turnId } = await prompt(a.conversations, 240);
  await vi.advanceTimersByTimeAsync(60_000);
  const reader = new AbortController();
  const followed = await b.conversations.resume('alice', 's', undefined, reader.signal);
  // The mark of the reader, and the write that it causes.
  await vi.advanceTimersByTimeAsync(3_000);
  for (let second = 0; second < 40; second++) {
    await vi.advanceTimersByTimeAsync(1_000);
    const seq = 63 * 4 + 1 + (second + 1) * 4;
    expect(seq - (await storedSeq(turnId))).toBeLessThanOrEqual(6);
  }
  reader.abort(new Error('gone'));
  await expect(followed.done).rejects.toThrow('gone');
  await vi.advanceTimersByTimeAsync(40_000);
  a.counted.reset();
  await vi.advanceTimersByTimeAsync(30_000);
  expect(a.counted.byCollection.get('turns')?.writes).toBeLessThanOrEqual(4);
});

it('a client that polls a turn on another instance gets its text at most a second late', async () => {
  const [a, b] = [start(), start()];
  await prompt(a.conversations, 120);
  await vi.advanceTimersByTimeAsync(60_000);
  await b.conversations.snapshot('alice', 's', undefined);
  await vi.advanceTimersByTimeAsync(3_000);
  const { events } = await b.conversations.snapshot('alice', 's', undefined);
  expect(events.length).toBeGreaterThanOrEqual(63 * 4 - 6);
});

it('much text at once is written within a second', async () => {
  const { conversations } = start();
  const text = 'x'.repeat(70_000);
  const large: Engine = {
    async *run() {
      yield { AgentMessageDelta: { delta: text } };
      await new Promise((resolve) => setTimeout(resolve, 10_000));
      return { content: text, usage: NO_USAGE, model, finishReason: 'stop' };
    },
  };
  const { run } = engine;
  engine.run = large.run;
  try {
    const { turnId, done } = await prompt(conversations, 0);
    await vi.advanceTimersByTimeAsync(1_100);
    expect(await storedSeq(turnId)).toBeGreaterThanOrEqual(5);
    await vi.advanceTimersByTimeAsync(10_000);
    await done;
  } finally {
    engine.run = run;
  }
});
