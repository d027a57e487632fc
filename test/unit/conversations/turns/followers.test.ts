// All readers on one instance of a turn that runs on another share one watch and one set of reads, and each receives
// every event once.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { conversationDelete } from '../../../../shared/methods/conversation.delete.ts';
import { conversationPrompt } from '../../../../shared/methods/conversation.prompt.ts';
import { conversationResume } from '../../../../shared/methods/conversation.resume.ts';
import { createEmbeddedStore } from '../../../../shared/store/embedded/embedded.ts';
import type { Ref } from '../../../../shared/store/store.ts';
import {
  createFixture,
  type Fixture,
  failure,
  type How,
  type Instance,
  isDelta,
} from '../../../support/fixtures/turns/conversations.ts';

const READERS = 200;

let fixture: Fixture;
let a: Instance;
let b: Instance;
/** Watches of turns: those that are open, and all that were ever opened. */
let watches: { readonly open: Set<object>; opened: number };

beforeEach(async () => {
  watches = { open: new Set(), opened: 0 };
  fixture = await createFixture({
    openStore: (clock) => {
      const store = createEmbeddedStore({ path: ':memory:', clock });
      return { ...store, watch: (ref, listener, onError) => watched(ref, store.watch(ref, listener, onError)) };
    },
  });
  a = await fixture.instance();
  b = await fixture.instance();
});
afterEach(() => fixture.close());

function watched({ collection }: Ref, unwatch: () => void): () => void {
  if (collection !== 'turns') return unwatch;
  watches.open.add(unwatch);
  watches.opened++;
  return () => {
    watches.open.delete(unwatch);
    unwatch();
  };
}

/** A reader on instance `b`; `begun` resolves with its first event. */
function follow(signal = new AbortController().signal) {
  const begun = Promise.withResolvers<void>();
  const seqs: number[] = [];
  const onEvent = ({ seq }: { readonly seq: number }): void => {
    seqs.push(seq);
    begun.resolve();
  };
  const ended = b.call(conversationResume, { session_id: 's' }, { transport: 'sse', onEvent, signal });
  ended.catch(() => {});
  return { begun: begun.promise, ended, seqs };
}

/** A turn on instance `a` of 40 pieces of 8 KiB, several chunks of events; the last piece waits for `finish`. */
async function startTurn() {
  const gate = Promise.withResolvers<void>();
  const chunks = Array.from({ length: 40 }, (_, index) => `${index} ${'x'.repeat(8 << 10)} `);
  fixture.provider.behave(() => ({ chunks, gate: (index) => (index === 39 ? gate.promise : Promise.resolve()) }));
  const running = a.stream('long');
  await running.until(isDelta);
  return { running, finish: gate.resolve };
}

it('200 readers of one turn cost the watch and the reads of one', async () => {
  const { running, finish } = await startTurn();
  b.counted.reset();
  const readers = Array.from({ length: READERS }, () => follow());
  await Promise.all(readers.map(({ begun }) => begun));
  expect(watches.opened).toBe(1);
  finish();
  const { content } = await running.answer;
  const expected = running.events.map(({ seq }) => seq);
  for (const { ended, seqs } of readers) {
    expect(await ended).toMatchObject({ status: 'completed', content });
    expect(seqs).toEqual(expected);
  }
  expect(watches.open.size).toBe(0);
  // Each chunk once; the record is read by the watch.
  expect(b.counted.byCollection.get('turn_events')?.reads).toBeLessThan(10);
  expect(b.counted.byCollection.get('turns')?.reads ?? 0).toBeLessThan(10);
});

it('the watch ends with the last reader, and a later reader begins anew', async () => {
  const { running, finish } = await startTurn();
  const leaving = [new AbortController(), new AbortController()];
  const readers = leaving.map(({ signal }) => follow(signal));
  await Promise.all(readers.map(({ begun }) => begun));
  leaving[0]?.abort(new Error('the client has gone'));
  await expect(readers[0]?.ended).rejects.toThrow('the client has gone');
  expect(watches.open.size).toBe(1);
  leaving[1]?.abort(new Error('the client has gone'));
  await expect(readers[1]?.ended).rejects.toThrow('the client has gone');
  expect(watches.open.size).toBe(0);
  const later = follow();
  await later.begun;
  finish();
  await running.answer;
  expect(await later.ended).toMatchObject({ status: 'completed' });
  expect(watches).toMatchObject({ opened: 2, open: new Set() });
});

it('a reader that arrives while the last one leaves or the turn ends misses and repeats no event', async () => {
  const { running, finish } = await startTurn();
  const readers: ReturnType<typeof follow>[] = [];
  for (let ticks = 0; ticks < 40; ticks++) {
    const leaving = new AbortController();
    const reader = follow(leaving.signal);
    await reader.begun;
    leaving.abort(new Error('the client has gone'));
    for (let tick = 0; tick < ticks; tick++) await undefined;
    const next = new AbortController();
    const following = follow(next.signal);
    await following.begun;
    next.abort(new Error('the client has gone'));
    readers.push(reader, following);
    await Promise.allSettled([reader.ended, following.ended]);
  }
  expect(watches.open.size).toBe(0);
  const last = follow();
  await last.begun;
  finish();
  const late = [last];
  const isEnded = running.answer.then(() => true);
  for (let isOver = false; !isOver; ) {
    late.push(follow());
    isOver = await Promise.race([isEnded, new Promise<false>((resolve) => setImmediate(resolve, false))]);
  }
  late.push(follow());
  const expected = running.events.map(({ seq }) => seq);
  for (const { ended, seqs } of late) {
    expect(await ended).toMatchObject({ status: 'completed' });
    expect(seqs).toEqual(expected);
  }
  for (const { seqs } of readers) expect(seqs).toEqual(expected.slice(0, seqs.length));
  expect(watches.open.size).toBe(0);
});

it('the readers of a session that is deleted all get not_found', async () => {
  const { running } = await startTurn();
  const readers = [follow(), follow()];
  await Promise.all(readers.map(({ begun }) => begun));
  await a.call(conversationDelete, { session_id: 's' });
  await failure(running.answer);
  for (const { ended } of readers) expect(await failure(ended)).toMatchObject({ reason: 'not_found' });
  expect(watches.open.size).toBe(0);
});

it('a prompt repeated after a cut stream, without its session, is followed before the turn is first stored', async () => {
  const gate = Promise.withResolvers<void>();
  fixture.provider.behave(() => ({
    chunks: ['one ', 'two'],
    gate: (index) => (index === 1 ? gate.promise : Promise.resolve()),
  }));
  const running = a.stream('hello', { session_id: undefined });
  await running.until(isDelta);
  const [started] = running.events;
  const { turn_id } = Object(started?.event).TaskStarted;
  const repeat = (turnId: string, how: How) => {
    const requestMetadata = { lastEventId: `${turnId}:1` };
    return b.call(conversationPrompt, { prompt: 'hello' }, { ...how, transport: 'sse', requestMetadata });
  };
  const seqs: number[] = [];
  const onEvent = ({ seq }: { readonly seq: number }): void => {
    seqs.push(seq);
    gate.resolve();
  };
  const repeated = await repeat(turn_id, { onEvent });
  expect(repeated).toEqual(await running.answer);
  expect(seqs).toEqual(running.events.map(({ seq }) => seq).filter((seq) => seq > 1));
  expect(watches.open.size).toBe(0);
  // Nothing is waited for once the caller has left.
  expect(await failure(repeat('turn_none', { signal: AbortSignal.abort() }))).toMatchObject({ reason: 'not_found' });
});
