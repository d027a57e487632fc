// A conversation gives its context to the model, runs one turn at a time, and can be cancelled from any instance.
// Idempotency, resume and erasure work. Run against every adapter of the Store port.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { conversationCancel } from '../../../shared/methods/conversation.cancel.ts';
import { conversationDelete } from '../../../shared/methods/conversation.delete.ts';
import { conversationHistory } from '../../../shared/methods/conversation.history.ts';
import { conversationResume } from '../../../shared/methods/conversation.resume.ts';
import { conversationStatus } from '../../../shared/methods/conversation.status.ts';
import {
  deltas,
  type Fixture,
  failure,
  type Instance,
  isDelta,
  isTerminal,
} from '../../support/fixtures/turns/conversations.ts';

export function conversationCases(name: string, openFixture: () => Promise<Fixture>): void {
  describe(`conversations on ${name}`, () => {
    let fixture: Fixture;
    let a: Instance;
    let b: Instance;
    let session = 's0';
    let sessions = 0;
    const fresh = (): string => {
      session = `s${++sessions}`;
      return session;
    };

    beforeAll(async () => {
      fixture = await openFixture();
      a = await fixture.instance();
      b = await fixture.instance();
    });
    afterAll(() => fixture.close());

    it('the model receives the whole conversation, whichever instance wrote it', async () => {
      const session_id = fresh();
      await a.prompt('my name is Ada', { session_id });
      await b.prompt('and I like tea', { session_id });
      const requested = fixture.provider.next();
      await a.prompt('who am I? [[count]]', { session_id });
      const { body } = await requested;
      expect(JSON.stringify(body)).toMatch(/my name is Ada.*You said: my name is Ada.*and I like tea.*who am I/);
    });

    it('every instance shows a turn once it is answered', async () => {
      const session_id = fresh();
      for (const [writer, reader] of [
        [a, b],
        [b, a],
      ] as const) {
        const { content, turn_id } = await writer.prompt('[[say done]]', { session_id });
        const history = await reader.call(conversationHistory, { session_id });
        expect(history.messages.at(-1)).toMatchObject({ role: 'assistant', content, turn_id });
        const status = await reader.call(conversationStatus, { session_id });
        expect(status).toMatchObject({ status: 'idle', turn: { turn_id, status: 'completed' } });
      }
    });

    it('a session runs one turn at a time: the other prompt is refused with the running turn, and leaves no trace', async () => {
      const session_id = fresh();
      const running = a.stream('[[hang]]', { session_id });
      await running.until(isDelta);
      const error = await failure(b.prompt('me too', { session_id }));
      const status = await b.call(conversationStatus, { session_id });
      const { turn_id } = error.data;
      expect(status).toMatchObject({ status: 'running', turn: { turn_id, status: 'running' } });
      expect(error).toMatchObject({ reason: 'session_busy', retryable: true, data: { session_id } });
      await b.call(conversationCancel, { session_id });
      const { messages } = await a.call(conversationHistory, { session_id });
      expect(messages.map(({ content }) => content)).toEqual(['[[hang]]', 'You said: ']);
    });

    it('queued prompts run in order, on whichever instance they wait', async () => {
      const session_id = fresh();
      const gate = Promise.withResolvers<void>();
      fixture.provider.behave(({ prompt }) => ({
        text: prompt,
        gate: () => (prompt === 'first' ? gate.promise : Promise.resolve()),
      }));
      const requested = fixture.provider.next();
      const first = a.prompt('first', { session_id });
      await requested;
      const queued = [];
      for (const [index, instance] of [b, a, b].entries()) {
        queued.push(instance.prompt(`q${index}`, { session_id, on_busy: 'queue' }));
        await waitForQueued(a, session_id, index + 1);
      }
      gate.resolve();
      const answers = await Promise.all([first, ...queued]);
      fixture.provider.behave();
      expect(answers.map(({ content }) => content)).toEqual(['first', 'q0', 'q1', 'q2']);
      const { messages } = await a.call(conversationHistory, { session_id });
      expect(messages.map(({ content }) => content)).toEqual(['first', 'first', 'q0', 'q0', 'q1', 'q1', 'q2', 'q2']);
    });

    it('an interrupting prompt stops the running turn of another instance and keeps the stored part of its answer', async () => {
      const session_id = fresh();
      const running = a.stream('[[hang]]', { session_id });
      await running.until(isDelta);
      const requested = fixture.provider.requests.at(-1);
      const { content } = await b.prompt('[[say instead]]', { session_id, on_busy: 'interrupt' });
      expect(content).toBe('instead');
      expect(await failure(running.answer)).toMatchObject({ reason: 'cancelled' });
      expect(running.events.at(-1)?.event).toMatchObject({ TurnAborted: { reason: 'replaced' } });
      expect(await requested?.done).toMatchObject({ by: 'client' });
      const { messages } = await a.call(conversationHistory, { session_id });
      expect(messages[1]).toMatchObject({ role: 'assistant', content: 'You said: ', partial: true });
    });

    it('a cancel from another instance closes the model’s socket, and a second cancel has the same result', async () => {
      const session_id = fresh();
      const running = a.stream('[[hang]]', { session_id });
      await running.until(isDelta);
      const requested = fixture.provider.requests.at(-1);
      const [one, two] = await Promise.all([
        b.call(conversationCancel, { session_id }),
        b.call(conversationCancel, { session_id }),
      ]);
      expect([one, two]).toMatchObject([{ cancelled: true }, { cancelled: true }]);
      expect(await requested?.done).toMatchObject({ by: 'client' });
      expect(await b.call(conversationCancel, { session_id })).toMatchObject({ cancelled: true, was_running: false });
      expect(await b.call(conversationStatus, { session_id })).toMatchObject({ status: 'cancelled' });
      expect(running.events.filter(isTerminal)).toHaveLength(1);
      expect(await b.prompt('[[say still usable]]', { session_id })).toMatchObject({ content: 'still usable' });
    });

    it('20 parallel duplicates of an idempotency key, over two instances, are answered with one model call', async () => {
      const session_id = fresh();
      const before = fixture.provider.calls;
      const idempotency_key = `key-${session_id}`;
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, index) =>
          (index % 2 === 0 ? a : b).prompt('[[chunks 3 every 30]]', { session_id, idempotency_key }),
        ),
      );
      expect(fixture.provider.calls - before).toBe(1);
      expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
      const error = await failure(b.prompt('something else', { session_id, idempotency_key }));
      expect(error).toMatchObject({ reason: 'invalid_params' });
    });

    it('another instance can follow a running turn from any event, without a gap or a duplicate', async () => {
      const session_id = fresh();
      const running = a.stream('[[chunks 30 every 60]]', { session_id });
      await running.until(({ seq }) => seq >= 5);
      const seen: number[] = [];
      const text: string[] = [];
      const resumed = await b.call(
        conversationResume,
        { session_id, after_seq: 3 },
        {
          transport: 'sse',
          onEvent: (event) => {
            seen.push(event.seq);
            text.push(deltas([event]));
          },
        },
      );
      const { content } = await running.answer;
      expect(resumed).toMatchObject({ status: 'completed', content, last_seq: running.events.at(-1)?.seq });
      expect(seen).toEqual(running.events.map(({ seq }) => seq).filter((seq) => seq > 3));
      expect(content.endsWith(text.join(''))).toBe(true);
    });

    it('the turn of an instance that lost the store is settled, its partial text is kept, and the instance is fenced', async () => {
      const session_id = fresh();
      const partitioned = await fixture.instance();
      const gate = Promise.withResolvers<void>();
      fixture.provider.behave(({ prompt }) =>
        prompt === 'lost'
          ? { chunks: ['part one', ' never seen'], gate: (n) => (n === 1 ? gate.promise : Promise.resolve()) }
          : { text: prompt },
      );
      const running = partitioned.stream('lost', { session_id });
      await running.until(isDelta);
      await waitForEvents(b, session_id);
      partitioned.line.state = 'down';
      fixture.clock.advance(31_000);
      const { content } = await b.prompt('next', { session_id });
      expect(content).toBe('next');
      gate.resolve();
      partitioned.line.state = 'up';
      const error = await failure(running.answer);
      fixture.provider.behave();
      expect(error).toMatchObject({ reason: 'unavailable', data: { turn_status: 'interrupted' } });
      expect(running.events.filter(isTerminal).map(({ event }) => event)).toMatchObject([
        { TurnAborted: { reason: 'interrupted' } },
      ]);
      const { messages } = await a.call(conversationHistory, { session_id });
      expect(messages.map(({ content: text, partial }) => [text, partial])).toEqual([
        ['lost', undefined],
        ['part one', true],
        ['next', undefined],
        ['next', undefined],
      ]);
    }, 30_000);

    it('deleting a session erases every document of it, those of a turn that runs elsewhere included', async () => {
      const before = await fixture.documents();
      const session_id = fresh();
      for (let n = 0; n < 12; n++)
        await a.prompt(`[[say ${n}]]`, { session_id, idempotency_key: `erase-${n}-${name}` });
      await b.prompt('x'.repeat(40_000), { session_id });
      const running = a.stream('[[chunks 200 every 30]]', { session_id, idempotency_key: `erase-run-${name}` });
      await running.until(({ seq }) => seq > 40);
      expect((await fixture.documents()).length).toBeGreaterThan(before.length + 20);
      expect(await b.call(conversationDelete, { session_id })).toEqual({ deleted: true, session_id });
      expect(await failure(running.answer)).toMatchObject({ reason: 'cancelled' });
      await Promise.all([a.services.conversations.ledger.flush(), b.services.conversations.ledger.flush()]);
      const rest = (await fixture.documents()).filter((id) => !before.includes(id) && !id.startsWith('usage/'));
      expect(rest).toEqual([]);
      expect(await b.call(conversationStatus, { session_id })).toEqual({ status: 'not_found', session_id });
      expect(await b.call(conversationDelete, { session_id })).toMatchObject({ deleted: false, status: 'not_found' });
    });
  });
}

async function waitForQueued(instance: Instance, session_id: string, count: number): Promise<void> {
  const queued = async (): Promise<unknown> => {
    const status = await instance.call(conversationStatus, { session_id });
    return 'queued' in status ? status.queued : undefined;
  };
  await expect.poll(queued, { interval: 5 }).toBe(count);
}

/** Until events of the running turn are in the store. */
async function waitForEvents(instance: Instance, session_id: string): Promise<void> {
  const stored = async (): Promise<number> =>
    (await instance.call(conversationResume, { session_id })).events?.length ?? 0;
  await expect.poll(stored, { interval: 20 }).toBeGreaterThan(1);
}
