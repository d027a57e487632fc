// An edit or a regenerated answer (`after_seq` of a prompt) drops the later messages in the commit that admits the
// prompt. No instance sends them to a model again, and earlier answers stay the same. Run against every adapter of the
// Store port.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { conversationDelete } from '../../../shared/methods/conversation.delete.ts';
import { conversationHistory } from '../../../shared/methods/conversation.history.ts';
import { conversationResume } from '../../../shared/methods/conversation.resume.ts';
import { conversationStatus } from '../../../shared/methods/conversation.status.ts';
import { type Fixture, failure, type Instance, isDelta } from '../../support/fixtures/turns/conversations.ts';
import { readHistory, sentStarts } from '../../support/fixtures/turns/histories.ts';
import { createRandom } from '../../support/random.ts';

export function branchCases(name: string, openFixture: () => Promise<Fixture>): void {
  describe(`edited sessions on ${name}`, () => {
    let fixture: Fixture;
    let a: Instance;
    let b: Instance;
    let sessions = 0;
    const fresh = (): string => `branch${++sessions}`;

    beforeAll(async () => {
      fixture = await openFixture();
      a = await fixture.instance();
      b = await fixture.instance();
      fixture.provider.behave(({ index }) => ({ text: `a${index};` }));
    });
    afterAll(() => fixture.close());

    const read = (session_id: string, order?: 'newest') => readHistory(b, session_id, order && { order });
    const contents = async (session_id: string) => (await read(session_id)).map(({ content }) => content);
    const sent = (): string[] => sentStarts(fixture);

    it('an edit drops the later messages, and keeps the numbers, the tokens, old turns and answered keys', async () => {
      const session_id = fresh();
      const first = await a.prompt('p1;', { session_id });
      const params = { session_id, idempotency_key: `answered-${name}` };
      const second = await a.prompt('p2;', params);
      const edited = await b.prompt('p3;', { session_id, after_seq: 2 });
      expect(sent()).toEqual(['p1;', first.content, 'p3;']);
      expect(await read(session_id)).toMatchObject([
        { seq: 1, content: 'p1;' },
        { seq: 2, content: first.content },
        { seq: 3, content: 'p3;', turn_id: edited.turn_id },
        { seq: 4, content: edited.content },
      ]);
      const total = [first, second, edited].reduce((sum, { usage }) => sum + usage.total_tokens, 0);
      const status = await a.call(conversationStatus, { session_id });
      expect(status).toMatchObject({ metadata: { message_count: 4, usage: { total_tokens: total }, title: 'p1;' } });
      // Answered keys and old turns are as they were.
      expect(await b.prompt('p2;', params)).toEqual(second);
      const resumed = await b.call(conversationResume, { session_id, turn_id: second.turn_id });
      expect(resumed).toMatchObject({ status: 'completed', content: second.content });
      await a.prompt('p4;', { session_id });
      expect(sent()).toEqual(['p1;', first.content, 'p3;', edited.content, 'p4;']);
    });

    it('an edit after message 0 starts over, with the title of the new first prompt', async () => {
      const session_id = fresh();
      await a.prompt('p1;', { session_id });
      const { content } = await b.prompt('p2;', { session_id, after_seq: 0 });
      expect(sent()).toEqual(['p2;']);
      expect(await contents(session_id)).toEqual(['p2;', content]);
      expect(await a.call(conversationStatus, { session_id })).toMatchObject({ metadata: { title: 'p2;' } });
    });

    it('no dropped message is sent to a model, however deep the edits, by instances that have cached every chunk', async () => {
      const session_id = fresh();
      const random = createRandom(7);
      const expected: string[] = [];
      for (let n = 0; n < 110; n++) {
        const isEdit = n > 25 && random.chance(0.2);
        const after = isEdit ? random.int(0, expected.length) : undefined;
        if (after !== undefined) expected.splice(after);
        const instance = random.pick([a, b]);
        // Some texts are stored in parts of their own, under numbers that other texts had before.
        const filler = random.chance(0.15) ? ' words'.repeat(6_000) : '';
        const { content } = await instance.prompt(`p${n};${filler}`, { session_id, after_seq: after });
        expected.push(`p${n};`);
        expect(sent(), `prompt ${n}`).toEqual(expected);
        expected.push(content);
      }
      const messages = await read(session_id);
      expect(messages.map(({ seq }) => seq)).toEqual(expected.map((_, index) => index + 1));
      expect(messages.map(({ content }) => content.split(' ')[0])).toEqual(expected);
      expect(await read(session_id, 'newest')).toEqual(messages.toReversed());
      const { conversation_id } = await a.call(conversationHistory, { session_id });
      await a.call(conversationDelete, { session_id });
      const left = (await fixture.documents()).filter((path) => path.includes(conversation_id));
      expect(left).toEqual([]);
    }, 60_000);

    it('the prompt of a failed turn is stored once, however often it is tried again under its key', async () => {
      const session_id = fresh();
      await a.prompt('p1;', { session_id });
      await a.prompt('p2;', { session_id });
      fixture.provider.behave(() => ({ status: 429, headers: { 'retry-after': '60' } }));
      const params = { session_id, after_seq: 2, idempotency_key: `retried-${name}` };
      for (const instance of [a, b, a]) await failure(instance.prompt('p3;', params));
      expect((await contents(session_id)).slice(2)).toEqual(['p3;']);
      fixture.provider.behave(({ index }) => ({ text: `a${index};` }));
      const { content } = await b.prompt('p3;', params);
      expect((await contents(session_id)).slice(2)).toEqual(['p3;', content]);
      expect(await a.prompt('p3;', params)).toMatchObject({ content });
    });

    it('an edit interrupts a running answer and replaces its prompt', async () => {
      const session_id = fresh();
      fixture.provider.behave(({ prompt }) =>
        prompt === 'p1;' ? { chunks: ['a1;'], hang: 'stream' } : { text: 'a2;' },
      );
      const running = a.stream('p1;', { session_id });
      await running.until(isDelta);
      const { content } = await b.prompt('p2;', { session_id, after_seq: 0, on_busy: 'interrupt' });
      fixture.provider.behave(({ index }) => ({ text: `a${index};` }));
      await failure(running.answer);
      expect(sent()).toEqual(['p2;']);
      expect(await contents(session_id)).toEqual(['p2;', content]);
    });

    it('an edit after a message that does not exist is refused before anything is stored or called', async () => {
      const session_id = fresh();
      const calls = fixture.provider.calls;
      const missing = await failure(a.prompt('p1;', { session_id, after_seq: 1 }));
      expect(missing).toMatchObject({ reason: 'not_found', message: 'no such session', data: { session_id } });
      await a.prompt('p1;', { session_id, after_seq: 0 });
      const foreign = await failure(a.prompt('p1;', { session_id, after_seq: 1 }, { owner: 'another' }));
      expect([foreign.reason, foreign.message, foreign.data]).toEqual([missing.reason, missing.message, missing.data]);
      const beyond = await failure(b.prompt('p2;', { session_id, after_seq: 3, on_busy: 'queue' }));
      const issue = { path: 'after_seq', message: 'must be at most 2, the number of the last message of the session' };
      expect(beyond).toMatchObject({ reason: 'invalid_params', data: { issues: [issue] } });
      const nameless = await failure(b.prompt('p2;', { session_id: undefined, after_seq: 0 }));
      expect(nameless).toMatchObject({ reason: 'invalid_params', data: { issues: [{ path: 'after_seq' }] } });
      const params = { session_id, idempotency_key: `edit-${name}` };
      await a.prompt('p2;', { ...params, after_seq: 2 });
      expect(await failure(a.prompt('p2;', { ...params, after_seq: 1 }))).toMatchObject({ reason: 'invalid_params' });
      expect(fixture.provider.calls - calls).toBe(2);
      expect(await contents(session_id)).toHaveLength(4);
    });

    it('a queued edit whose message is dropped meanwhile is refused, and leaves the queue', async () => {
      const session_id = fresh();
      for (const prompt of ['p1;', 'p2;']) await a.prompt(prompt, { session_id });
      const gate = Promise.withResolvers<void>();
      fixture.provider.behave(() => ({ text: 'a0;', gate: () => gate.promise }));
      const requested = fixture.provider.next();
      const running = a.prompt('p3;', { session_id });
      await requested;
      const queued = async () => {
        const status = await a.call(conversationStatus, { session_id });
        return 'queued' in status ? status.queued : 0;
      };
      const first = b.prompt('p4;', { session_id, after_seq: 0, on_busy: 'queue' });
      await expect.poll(queued, { interval: 5 }).toBe(1);
      const second = failure(b.prompt('p5;', { session_id, after_seq: 4, on_busy: 'queue' }));
      await expect.poll(queued, { interval: 5 }).toBe(2);
      gate.resolve();
      await Promise.all([running, first]);
      expect(await second).toMatchObject({ reason: 'invalid_params', data: { issues: [{ path: 'after_seq' }] } });
      fixture.provider.behave(({ index }) => ({ text: `a${index};` }));
      expect(await queued()).toBe(0);
      expect(await contents(session_id)).toEqual(['p4;', 'a0;']);
    });
  });
}
