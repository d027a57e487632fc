// A turn ends exactly once, whatever happens to its lease: it expires, its owner continues after that, or a cancel
// arrives at the time of the end.
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type ConversationDocument,
  Conversations,
  conversationRef,
} from '../../../../shared/conversations/records/documents.ts';
import type { NumberedEvent } from '../../../../shared/conversations/records/event-log.ts';
import { Turns } from '../../../../shared/conversations/records/turn-documents.ts';
import { RpcError } from '../../../../shared/errors.ts';
import { conversationCancel } from '../../../../shared/methods/conversation.cancel.ts';
import { conversationDelete } from '../../../../shared/methods/conversation.delete.ts';
import { conversationHistory } from '../../../../shared/methods/conversation.history.ts';
import { conversationResume } from '../../../../shared/methods/conversation.resume.ts';
import { conversationStatus } from '../../../../shared/methods/conversation.status.ts';
import { createEmbeddedStore } from '../../../../shared/store/embedded/embedded.ts';
import { prepareWrite, toWireWrite } from '../../../../shared/store/firestore/documents.ts';
import type { Store, Write } from '../../../../shared/store/store.ts';
import {
  createFixture,
  type Fixture,
  failure,
  type Instance,
  isDelta,
  isTerminal,
} from '../../../support/fixtures/turns/conversations.ts';

/** Longer than a busy machine may stop for. */
const LEASE_MS = 20_000;
const EIGHT_HOURS_MS = 8 * 3_600_000;

let fixture: Fixture;
let a: Instance;
let b: Instance;
beforeEach(async () => {
  fixture = await createFixture({ env: { GATEWAY_LEASE_MS: String(LEASE_MS), GATEWAY_HEARTBEAT_MS: '200' } });
  a = await fixture.instance();
  b = await fixture.instance();
});
afterEach(() => fixture.close());

const stored = async (session: string): Promise<ConversationDocument> => {
  const [snapshot] = await fixture.store.get([conversationRef('default', session)]);
  const document = Conversations.read(snapshot);
  if (document === undefined) throw new Error('no such session');
  return document;
};

describe('a lease', () => {
  it('a lease is renewed while the turn runs, however long', async () => {
    const running = a.stream('[[chunks 30 every 100]]', { session_id: 's' });
    await running.until(isDelta);
    const first = await stored('s');
    await running.until(({ seq }) => seq > 8);
    const later = await stored('s');
    expect(later.turn?.lease_until_ms).toBeGreaterThan(first.turn?.lease_until_ms ?? 0);
    expect(await running.answer).toMatchObject({ type: 'ai_response' });
  });

  it('a renewal sends the lease to Firestore, not the history', async () => {
    const text = 'x'.repeat(30_000);
    fixture.provider.behave(() => ({ text }));
    for (let turn = 0; turn < 3; turn++) await a.prompt(text);
    fixture.provider.behave(() => ({ hang: 'stream' }));
    const running = a.stream('slow');
    await running.until(isDelta);
    const renewed = Promise.withResolvers<readonly Write[]>();
    const { commit } = a.line;
    a.line.commit = (writes, options) => {
      if (writes.some(({ ref }) => ref.collection === 'conversations')) renewed.resolve(writes);
      return commit(writes, options);
    };
    const [write, ...others] = await renewed.promise;
    if (write === undefined) throw new Error('no write');
    expect(others).toEqual([]);
    expect(JSON.stringify(write).length).toBeGreaterThan(180_000);
    // With a version as Firestore's.
    const asFirestore: Write = { ...write, if: { version: '1700000000.000000001' } };
    const sent = toWireWrite({ nameOf: (collection, id) => `${collection}/${id}` }, prepareWrite(asFirestore));
    expect(sent.paths).toEqual(['expire_at', 'data.`turn`']);
    expect(JSON.stringify(sent).length).toBeLessThanOrEqual(1_024);
    await a.call(conversationCancel, { session_id: 's' });
    await failure(running.answer);
  });

  it('a lease that has expired is only read by a snapshot and ended by status; its session is free', async () => {
    fixture.provider.behave(({ prompt }) => (prompt === 'hang' ? { hang: 'stream' } : { text: 'answer' }));
    const running = a.stream('hang', { session_id: 's' });
    await running.until(isDelta);
    a.line.state = 'down';
    fixture.clock.advance(LEASE_MS + 1);
    const { conversations } = b.services;
    expect(await conversations.snapshot('default', 's', undefined)).toMatchObject({ status: 'running' });
    const { turn } = await stored('s');
    expect(turn && conversations.ownerState(turn)).toBe('expired');
    const status = await b.call(conversationStatus, { session_id: 's' });
    expect(status).toMatchObject({ status: 'cancelled', turn: { status: 'interrupted' } });
    const resumed = await b.call(conversationResume, { session_id: 's' });
    expect(resumed).toMatchObject({ status: 'interrupted' });
    expect(resumed.events?.at(-1)?.event).toMatchObject({ TurnAborted: { reason: 'interrupted' } });
    expect(await b.prompt('next')).toMatchObject({ content: 'answer' });
    a.line.state = 'up';
    expect(await failure(running.answer)).toMatchObject({ reason: 'unavailable' });
    expect(await fixture.provider.requests[0]?.done).toMatchObject({ by: 'client' });
  });

  it('a lease of an owner that crashed with its clock 8 hours ahead keeps the session busy for two heartbeats at most', async () => {
    fixture.provider.behave(({ prompt }) => (prompt === 'hang' ? { hang: 'stream' } : { text: 'answer' }));
    fixture.clock.step(EIGHT_HOURS_MS);
    const running = a.stream('hang', { session_id: 's' });
    await running.until(isDelta);
    const queued = failure(a.prompt('waits', { session_id: 's', on_busy: 'queue' }));
    await expect.poll(async () => (await stored('s')).queue).toHaveLength(1);
    a.line.state = 'down';
    fixture.clock.step(-EIGHT_HOURS_MS);
    expect(await b.call(conversationStatus, { session_id: 's' })).toMatchObject({ status: 'running' });
    const next = b.prompt('next', { session_id: 's', on_busy: 'queue' });
    await expect.poll(async () => (await stored('s')).turn).toBeNull();
    fixture.clock.advance(31_000);
    expect(await next).toMatchObject({ content: 'answer' });
    a.line.state = 'up';
    await failure(running.answer);
    await queued;
  });

  it('a turn with an expired lease ends for every reader right after the last event that it has received, stored or not', async () => {
    const running = a.stream('[[hang]]');
    await running.until(isDelta);
    a.line.state = 'down';
    const seen = running.events.length;
    fixture.clock.advance(LEASE_MS + 1);
    for (const after_seq of [0, 1, seen, seen + 7]) {
      for (const transport of ['http', 'sse'] as const) {
        const streamed: NumberedEvent[] = [];
        const how = { transport, onEvent: (event: NumberedEvent) => void streamed.push(event) };
        const resumed = await b.call(conversationResume, { session_id: 's', after_seq }, how);
        const events = resumed.events ?? streamed;
        expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => after_seq + 1 + index));
        expect(events.filter(({ event }) => 'TurnAborted' in event)).toMatchObject([{ seq: resumed.last_seq }]);
      }
    }
    a.line.state = 'up';
    await failure(running.answer);
    expect(running.events.map(({ seq }) => seq)).toEqual(running.events.map((_, index) => index + 1));
    expect(running.events.filter(isTerminal)).toHaveLength(1);
  });

  it('a lease that was shown as over stays over: an owner that was only late does not complete the turn', async () => {
    const gate = Promise.withResolvers<void>();
    fixture.provider.behave(() => ({ text: 'late answer', gate: () => gate.promise }));
    const requested = fixture.provider.next();
    const late = a.prompt('slowly');
    await requested;
    a.line.state = 'down';
    fixture.clock.advance(LEASE_MS + 1);
    const shown = await b.call(conversationStatus, { session_id: 's' });
    expect(shown).toMatchObject({ turn: { status: 'interrupted' } });
    a.line.state = 'up';
    gate.resolve();
    expect(await failure(late)).toMatchObject({ data: { turn_status: 'interrupted' } });
    expect(await b.call(conversationStatus, { session_id: 's' })).toMatchObject({ turn: { status: 'interrupted' } });
  });

  it('an owner that has not noticed that its lease was taken does not report a running turn either', async () => {
    const running = a.stream('[[hang]]');
    await running.until(isDelta);
    a.line.state = 'down';
    await b.call(conversationCancel, { session_id: 's' });
    a.line.state = 'up';
    expect(await a.call(conversationResume, { session_id: 's' })).toMatchObject({ status: 'cancelled' });
    expect(await failure(running.answer)).toMatchObject({ reason: 'cancelled' });
  });

  it('a lease does not count as lost when a watch shows an older state', async () => {
    const behind = await createFixture({
      openStore(clock) {
        const store = createEmbeddedStore({ path: ':memory:', clock });
        const watch: Store['watch'] = (ref, listener, onError) => {
          listener({ ref, data: undefined, version: null });
          return store.watch(ref, listener, onError);
        };
        return { ...store, watch };
      },
    });
    const instance = await behind.instance();
    expect(await instance.prompt('[[chunks 12 every 30]]')).toMatchObject({ type: 'ai_response' });
    await behind.close();
  });

  it('an owner that lost its lease is fenced: none of its later writes is stored', async () => {
    const gate = Promise.withResolvers<void>();
    fixture.provider.behave(({ prompt }) =>
      prompt === 'stale' ? { text: 'stale answer', gate: () => gate.promise } : { text: 'answer' },
    );
    const requested = fixture.provider.next();
    const stale = a.prompt('stale');
    await requested;
    a.line.state = 'down';
    fixture.clock.advance(LEASE_MS + 1);
    await b.prompt('fresh');
    gate.resolve();
    a.line.state = 'up';
    expect(await failure(stale)).toMatchObject({ reason: 'unavailable', data: { turn_status: 'interrupted' } });
    const { messages } = await b.call(conversationHistory, { session_id: 's' });
    expect(messages.map(({ content }) => content)).toEqual(['stale', 'fresh', 'answer']);
    expect(await b.call(conversationStatus, { session_id: 's' })).toMatchObject({ status: 'idle' });
  });

  it('a lease of a deleted session gives its owner no hold on the session that took its name', async () => {
    const gate = Promise.withResolvers<void>();
    fixture.provider.behave(({ prompt }) => ({
      text: prompt,
      gate: () => (prompt === 'third' ? Promise.resolve() : gate.promise),
    }));
    const requested = fixture.provider.next();
    const old = a.stream('old');
    await requested;
    a.line.state = 'down';
    await b.call(conversationDelete, { session_id: 's' });
    const requestedAgain = fixture.provider.next();
    const fresh = b.prompt('fresh');
    await requestedAgain;
    const turn = (await stored('s')).turn;
    a.line.state = 'up';
    expect(await failure(old.answer)).toMatchObject({ reason: 'cancelled' });
    expect(old.events.filter(isTerminal)).toHaveLength(1);
    expect((await stored('s')).turn?.turn_id).toBe(turn?.turn_id);
    gate.resolve();
    expect(await fresh).toMatchObject({ content: 'fresh' });
    const { messages } = await b.call(conversationHistory, { session_id: 's' });
    expect(messages.map(({ content }) => content)).toEqual(['fresh', 'fresh']);
  });

  it('a prompt whose admission was applied and never confirmed is refused; its session frees itself', async () => {
    a.line.state = 'unconfirmed';
    expect(await failure(a.prompt('hello'))).toMatchObject({ reason: 'unavailable' });
    a.line.state = 'up';
    fixture.clock.advance(LEASE_MS + 1);
    expect((await b.prompt('next')).content).toMatch(/next$/);
  });

  it('a prompt whose admission was applied, and confirmed only when it was read again, is answered', async () => {
    const { commit } = a.line;
    a.line.commit = async (writes, options) => {
      a.line.commit = commit;
      await commit(writes, options);
      throw new RpcError('unavailable');
    };
    expect(await a.prompt('hello')).toMatchObject({ content: 'You said: hello' });
    expect((await b.prompt('next')).content).toMatch(/next$/);
  });

  it('a lease keeps every event when the answers to its flushes are lost', async () => {
    const gate = Promise.withResolvers<void>();
    const chunks = Array.from({ length: 40 }, (_, index) => `${index} `);
    fixture.provider.behave(() => ({
      chunks,
      everyMs: 60,
      gate: async (index) => (index === chunks.length ? gate.promise : undefined),
    }));
    const running = a.stream('count');
    await running.until(isDelta);
    const flushes = (): number => a.counted.byCollection.get(Turns.ref('').collection)?.writes ?? 0;
    const nextFlush = async (): Promise<void> => {
      const before = flushes();
      await expect.poll(flushes, { interval: 10 }).toBeGreaterThan(before);
    };
    a.line.state = 'unconfirmed';
    await nextFlush();
    a.line.state = 'up';
    await nextFlush();
    gate.resolve();
    const { content } = await running.answer;
    const resumed = await b.call(conversationResume, { session_id: 's' });
    expect(resumed).toMatchObject({ status: 'completed', content });
    expect(resumed.events?.map(({ seq }) => seq)).toEqual(running.events.map(({ seq }) => seq));
    expect(resumed.events?.map(({ event }) => event)).toEqual(running.events.map(({ event }) => event));
  });
});

it('a reader follows a turn to its end although the watch of the store has failed permanently', async () => {
  const follower = await fixture.instance();
  // As the SDK's listeners end when they have met too many errors in a row.
  follower.line.watch = (_ref, _listener, onError) => {
    queueMicrotask(() => onError?.(new Error('Exceeded maximum number of retries')));
    return () => {};
  };
  const running = a.stream('[[chunks 10 every 100]]');
  await running.until(isDelta);
  const seqs: number[] = [];
  const onEvent = ({ seq }: { readonly seq: number }): void => void seqs.push(seq);
  const resumed = await follower.call(conversationResume, { session_id: 's' }, { transport: 'sse', onEvent });
  expect(resumed).toMatchObject({ status: 'completed', content: (await running.answer).content });
  expect(seqs).toEqual(running.events.map(({ seq }) => seq));
});

describe('a cancel that races the end of its turn', () => {
  it('a cancel that races the end of its turn agrees with the turn’s one terminal state, in any interleaving', async () => {
    let sessions = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1, maxLength: 4 }),
        fc.constantFrom('[[say quick]]', '[[chunks 3 every 2]]', '[[cut]]', '[[status 400]]'),
        fc.boolean(),
        async (delaysMs, prompt, fromOwner) => {
          const session_id = `race${++sessions}`;
          const running = a.stream(prompt, { session_id });
          const cancels = delaysMs.map(async (ms) => {
            await new Promise((resolve) => setTimeout(resolve, ms));
            return (fromOwner ? a : b).call(conversationCancel, { session_id });
          });
          const outcomes = await Promise.all(cancels);
          // A cancel may come before the prompt is admitted; then there is no session yet.
          const before = outcomes.some((outcome) => outcome.cancelled && outcome.was_running)
            ? (await stored(session_id)).last_turn
            : null;
          const answer = await running.answer.then(
            () => 'completed',
            (error: { reason: string }) => error.reason,
          );
          const after = (await stored(session_id)).last_turn;
          // A cancel is answered when the terminal state is on record, and that never changes.
          if (outcomes.some((outcome) => outcome.cancelled && outcome.was_running)) expect(before).toEqual(after);
          const expected = { completed: 'completed', cancelled: 'cancelled' }[answer] ?? 'failed';
          expect(after?.status).toBe(expected);
          expect(running.events.filter(isTerminal)).toHaveLength(1);
          const [record] = await fixture.store.get([Turns.ref(after?.turn_id ?? '')]);
          expect(Turns.read(record)?.status).toBe(after?.status);
          expect((await stored(session_id)).turn).toBeNull();
          // A cancel that stopped a running turn, and came before its end, is what its caller sees.
          if (outcomes.every((outcome) => !(outcome.cancelled && outcome.was_running)))
            expect(answer).not.toBe('cancelled');
        },
      ),
      { numRuns: 60 },
    );
  }, 60_000);
});
