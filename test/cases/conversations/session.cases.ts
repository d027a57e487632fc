// A session keeps what its caller sets on it (title, metadata) and what a turn leaves (the error of a failed one), and
// the list finds it by metadata. Run against every adapter of the Store port.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { conversationDelete } from '../../../shared/methods/conversation.delete.ts';
import { conversationHistory } from '../../../shared/methods/conversation.history.ts';
import { conversationList } from '../../../shared/methods/conversation.list.ts';
import { conversationStatus } from '../../../shared/methods/conversation.status.ts';
import { conversationUpdate } from '../../../shared/methods/conversation.update.ts';
import { type Fixture, failure, type Instance, isDelta } from '../../support/fixtures/turns/conversations.ts';
import { readHistory } from '../../support/fixtures/turns/histories.ts';

export function sessionCases(name: string, openFixture: () => Promise<Fixture>): void {
  describe(`sessions on ${name}`, () => {
    let fixture: Fixture;
    let a: Instance;
    let b: Instance;
    let sessions = 0;
    const fresh = (): string => `care${++sessions}`;

    beforeAll(async () => {
      fixture = await openFixture();
      a = await fixture.instance();
      b = await fixture.instance();
    });
    afterAll(() => fixture.close());

    const statusOf = async (session_id: string) => {
      const status = await a.call(conversationStatus, { session_id });
      if (!('metadata' in status)) throw new Error('no such session');
      return status;
    };
    const readList = async (metadata: Record<string, string>, limit: number, owner = 'default') => {
      const seen: string[] = [];
      let cursor: string | undefined;
      do {
        const page = await b.call(conversationList, { metadata, limit, cursor }, { owner });
        expect(page.conversations.length).toBeLessThanOrEqual(limit);
        seen.push(...page.conversations.map(({ session_id }) => session_id));
        cursor = page.next_cursor;
      } while (cursor !== undefined);
      return seen;
    };

    it('a session has the first 80 characters of its first prompt as its title, until the caller gives it another one', async () => {
      const session_id = fresh();
      const first = `${'a'.repeat(79)}\u{1F600} and more`;
      await a.prompt(`\n ${first}`, { session_id });
      await b.prompt('second prompt', { session_id });
      const title = 'a'.repeat(79);
      expect((await statusOf(session_id)).metadata).toMatchObject({ title });
      expect(await a.call(conversationUpdate, { session_id })).toMatchObject({ session_id, title });
      expect(await a.call(conversationUpdate, { session_id, title: 'Mine' })).toMatchObject({ title: 'Mine' });
      await b.prompt('third prompt', { session_id });
      expect((await statusOf(session_id)).metadata).toMatchObject({ title: 'Mine' });
      expect(await b.call(conversationUpdate, { session_id, title: null })).toMatchObject({ title });
    });

    it('an update changes only what is given, beside a running turn, and remains when the turn ends', async () => {
      const session_id = fresh();
      const running = a.stream('[[chunks 6 every 30]]', { session_id });
      await running.until(isDelta);
      const metadata = { user: 'u1', 'naïve "key"': '😀 \u0000 __proto__' };
      const updated = await b.call(conversationUpdate, { session_id, metadata, retention_days: 30 });
      expect(updated).toMatchObject({ status: 'running', metadata, retention_days: 30 });
      const other = await b.call(conversationUpdate, { session_id, title: 'Named' });
      expect(other).toMatchObject({ title: 'Named', metadata, retention_days: 30 });
      await running.answer;
      const { metadata: state, status } = await statusOf(session_id);
      expect({ status, state }).toMatchObject({
        status: 'idle',
        state: { title: 'Named', metadata, retention_days: 30, message_count: 2 },
      });
      const cleared = await b.call(conversationUpdate, { session_id, metadata: null, retention_days: null });
      expect(cleared).not.toHaveProperty('metadata');
      expect(cleared).not.toHaveProperty('retention_days');
      expect(cleared.updated_at).toBe(state.updated_at);
    });

    it('the list has title, preview and metadata, and finds sessions by metadata, page by page, each once', async () => {
      const owner = `lister-${name.length}`;
      const expected: string[] = [];
      for (let n = 0; n < 11; n++) {
        const session_id = fresh();
        await a.prompt(`prompt ${n} [[say answer ${n}]]`, { session_id }, { owner });
        const metadata = { user: n % 2 === 0 ? 'even' : 'odd', team: n % 3 === 0 ? 'red' : 'blue' };
        if (n < 10) await a.call(conversationUpdate, { session_id, metadata }, { owner });
        if (n < 10 && n % 2 === 0) expected.unshift(session_id);
        fixture.clock.advance(10);
      }
      for (const limit of [1, 2, 5, 100]) expect(await readList({ user: 'even' }, limit, owner)).toEqual(expected);
      const red = expected.filter((_, index) => index % 3 === 1);
      for (const limit of [1, 2, 100]) {
        expect(await readList({ user: 'even', team: 'red' }, limit, owner)).toEqual(red);
        expect(await readList({ team: 'red', user: 'even' }, limit, owner)).toEqual(red);
      }
      expect(await readList({ user: 'EVEN' }, 5, owner)).toEqual([]);
      expect(await readList({ user: 'even' }, 5, `${owner}-other`)).toEqual([]);
      expect(await readList({}, 4, owner)).toHaveLength(11);
      const { conversations } = await b.call(conversationList, { metadata: { user: 'even' }, limit: 1 }, { owner });
      await a.prompt(`long [[say ${'é'.repeat(20_000)}]]`, { session_id: expected[0] }, { owner });
      const again = await b.call(conversationList, { metadata: { user: 'even' }, limit: 1 }, { owner });
      expect(again.conversations[0]?.preview).toBe('é'.repeat(120));
      expect(conversations).toMatchObject([
        {
          status: 'idle',
          title: 'prompt 8 [[say answer 8]]',
          preview: 'answer 8',
          metadata: { user: 'even', team: 'blue' },
        },
      ]);
    });

    it('the history is paged in both orders, exactly, while the session continues', async () => {
      const session_id = fresh();
      const texts = Array.from({ length: 26 }, (_, n) => `prompt ${n}`);
      texts[3] = 'x'.repeat(600_000);
      texts[4] = 'y'.repeat(600_000);
      fixture.provider.behave(({ index }) => ({ text: `answer ${index}` }));
      for (const [n, text] of texts.entries()) await (n % 2 === 0 ? a : b).prompt(text, { session_id });
      const count = 2 * texts.length;
      const whole = (await b.call(conversationHistory, { session_id, limit: 200, order: 'newest' })).messages;
      expect(whole.length).toBeLessThan(count);
      for (const limit of [7, 50, 200]) {
        const oldest = await readHistory(a, session_id, { limit, order: 'oldest' });
        const newest = await readHistory(b, session_id, { limit, order: 'newest' });
        expect(oldest.map(({ seq }) => seq)).toEqual(Array.from({ length: count }, (_, index) => index + 1));
        expect(newest).toEqual(oldest.toReversed());
        expect(oldest.filter(({ role }) => role === 'user').map(({ content }) => content)).toEqual(texts);
      }
      const first = await a.call(conversationHistory, { session_id, limit: 4, order: 'newest' });
      await b.prompt('meanwhile', { session_id });
      const cursor = first.next_cursor;
      const second = await a.call(conversationHistory, { session_id, limit: 4, order: 'newest', cursor });
      expect([...first.messages, ...second.messages].map(({ seq }) => seq)).toEqual([52, 51, 50, 49, 48, 47, 46, 45]);
      for (const [order, other] of [
        ['newest', 'oldest'],
        ['oldest', 'newest'],
      ] as const) {
        const { next_cursor } = await a.call(conversationHistory, { session_id, limit: 1, order });
        const error = await failure(a.call(conversationHistory, { session_id, order: other, cursor: next_cursor }));
        expect(error).toMatchObject({ reason: 'invalid_params', data: { issues: [{ path: 'cursor' }] } });
      }
      fixture.provider.behave();
    });

    it('a session that is missing, another key’s or deleted is not updated', async () => {
      const session_id = fresh();
      await a.prompt('hi', { session_id });
      const update = (params: { session_id: string }, owner?: string) =>
        failure(a.call(conversationUpdate, { ...params, title: 'x' }, owner === undefined ? {} : { owner }));
      const foreign = await update({ session_id }, 'another');
      await b.call(conversationDelete, { session_id });
      const deleted = await update({ session_id });
      expect(foreign).toMatchObject({ reason: 'not_found', data: { session_id } });
      expect([deleted.reason, deleted.message, deleted.data]).toEqual([foreign.reason, foreign.message, foreign.data]);
      expect(await a.call(conversationStatus, { session_id })).toMatchObject({ status: 'not_found' });
    });

    it('the error of a failed turn is kept until the next turn of the session', async () => {
      const session_id = fresh();
      fixture.provider.behave(() => ({ status: 400 }));
      const error = await failure(a.prompt('refused', { session_id }));
      fixture.provider.behave();
      expect(await statusOf(session_id)).toMatchObject({
        status: 'failed',
        turn: {
          turn_id: error.data.turn_id,
          error: { reason: 'upstream_error', message: error.message, retryable: false },
        },
      });
      await b.prompt('hello', { session_id });
      expect((await statusOf(session_id)).turn).not.toHaveProperty('error');
    });

    it('a failed turn is in the history with its error, and can be tried again without a second prompt', async () => {
      const read = async (session_id: string) => readHistory(a, session_id, { limit: 200, order: 'oldest' });
      for (const isKeyed of [true, false]) {
        const session_id = fresh();
        await a.prompt('first', { session_id });
        fixture.provider.behave(() => ({ status: 429, headers: { 'retry-after': '60' } }));
        const key = isKeyed ? { idempotency_key: `again-${session_id}-${name}` } : {};
        const error = await failure(a.prompt('again', { session_id, ...key }));
        const failed = { seq: 3, content: 'again', error: { reason: 'upstream_error', message: error.message } };
        expect((await read(session_id)).slice(2)).toMatchObject([failed]);
        // Without a key, the message is named that the prompt follows.
        const again = isKeyed ? key : { after_seq: 2 };
        for (const instance of [b, a]) await failure(instance.prompt('again', { session_id, ...again }));
        expect((await read(session_id)).slice(2)).toMatchObject([failed]);
        fixture.provider.behave();
        const { content } = await b.prompt('again', { session_id, ...again });
        const [prompt, answer, ...rest] = (await read(session_id)).slice(2);
        expect([prompt, answer, rest]).toMatchObject([{ seq: 3, content: 'again' }, { seq: 4, content }, []]);
        expect(prompt).not.toHaveProperty('error');
        expect(await a.call(conversationStatus, { session_id })).toMatchObject({ status: 'idle' });
      }
    });
  });
}
