// A session that has expired is absent immediately and is erased completely. Its use postpones the expiry without an
// additional write. Run against every adapter of the Store port.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type ConversationDocument,
  Conversations,
  conversationRef,
} from '../../../shared/conversations/records/documents.ts';
import { createRollouts } from '../../../shared/conversations/records/rollouts.ts';
import { StorageTotals, storageRef } from '../../../shared/conversations/records/storage.ts';
import { Turns } from '../../../shared/conversations/records/turn-documents.ts';
import { conversationCancel } from '../../../shared/methods/conversation.cancel.ts';
import { conversationDelete } from '../../../shared/methods/conversation.delete.ts';
import { conversationHistory } from '../../../shared/methods/conversation.history.ts';
import { conversationList } from '../../../shared/methods/conversation.list.ts';
import { conversationResume } from '../../../shared/methods/conversation.resume.ts';
import { conversationStatus } from '../../../shared/methods/conversation.status.ts';
import { conversationUpdate } from '../../../shared/methods/conversation.update.ts';
import { type Fixture, failure, type Instance } from '../../support/fixtures/turns/conversations.ts';

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
/** The collections that have documents of a session. */
const SESSION_COLLECTIONS = [
  ...['conversations', 'messages', 'texts', 'turns', 'turn_events', 'idempotency', 'rollouts', 'storage'],
];

export function retentionCases(name: string, openFixture: () => Promise<Fixture>): void {
  describe(`retention on ${name}`, () => {
    let fixture: Fixture;
    /** They keep sessions for two days, `c` for good. */
    let a: Instance;
    let b: Instance;
    let c: Instance;
    beforeEach(async () => {
      fixture = await openFixture();
      fixture.provider.behave(() => ({ text: 'answer' }));
      [a, b] = [
        await fixture.instance({ GATEWAY_RETENTION_DAYS: '2' }),
        await fixture.instance({ GATEWAY_RETENTION_DAYS: '2' }),
      ];
      c = await fixture.instance();
    });
    afterEach(() => fixture.close());

    const read = async (session_id: string): Promise<ConversationDocument | undefined> => {
      const [snapshot] = await fixture.store.get([conversationRef('default', session_id)]);
      return Conversations.read(snapshot);
    };
    const change = async (session_id: string, by: (stored: ConversationDocument) => ConversationDocument) => {
      const stored = await read(session_id);
      if (stored === undefined) throw new Error('not stored');
      await fixture.store.commit([Conversations.write(conversationRef('default', session_id), by(stored))]);
    };
    const listed = async (on: Instance) =>
      (await on.call(conversationList, {})).conversations.map(({ session_id }) => session_id).sort();
    const isFound = async (on: Instance, session_id: string): Promise<boolean> =>
      (await on.call(conversationStatus, { session_id })).status !== 'not_found';
    const expectAbsent = async (on: Instance, session_id: string): Promise<void> => {
      expect(await on.call(conversationStatus, { session_id })).toEqual({ status: 'not_found', session_id });
      expect(await listed(on)).not.toContain(session_id);
      expect(await failure(on.call(conversationHistory, { session_id }))).toMatchObject({ reason: 'not_found' });
      for (const transport of ['http', 'sse'] as const) {
        const resumed = on.call(conversationResume, { session_id }, { transport });
        expect(await failure(resumed)).toMatchObject({ reason: 'not_found' });
      }
      expect(await on.call(conversationCancel, { session_id })).toMatchObject({ status: 'not_found' });
    };

    it('an expired session is absent at once for every method, on every instance', async () => {
      await a.prompt('hello', { session_id: 's' });
      fixture.clock.advance(2 * DAY_MS - MINUTE_MS);
      expect([await isFound(a, 's'), await isFound(b, 's')]).toEqual([true, true]);
      fixture.clock.advance(2 * MINUTE_MS);
      await expectAbsent(a, 's');
      await expectAbsent(b, 's');
      expect(await isFound(c, 's')).toBe(true);
      expect(await b.call(conversationDelete, { session_id: 's' })).toMatchObject({ deleted: false });
      expect(await read('s')).toBeUndefined();
    });

    it('a prompt to an expired session starts a new one, and the model receives only this prompt', async () => {
      const first = await a.prompt('my name is Ada', { session_id: 's' });
      fixture.clock.advance(3 * DAY_MS);
      const requested = fixture.provider.next();
      const second = await b.prompt('who am I?', { session_id: 's' });
      expect(JSON.stringify((await requested).body)).not.toContain('Ada');
      expect(second.conversation_id).not.toBe(first.conversation_id);
      expect((await fixture.documents()).filter((path) => path.includes(first.conversation_id))).toEqual([]);
      // `a` has the expired session in memory.
      const third = await a.prompt('and now?', { session_id: 's' });
      expect(third.conversation_id).toBe(second.conversation_id);
    });

    it('every use moves the expiry, and older messages stay, without more operations', async () => {
      for (let n = 0; n < 15; n++) {
        await a.prompt(`question ${n}`, { session_id: 's' });
        await c.prompt(`question ${n}`, { session_id: 'kept for good' });
        fixture.clock.advance(1.5 * DAY_MS);
      }
      const { messages } = await a.call(conversationHistory, { session_id: 's' });
      expect(messages.map(({ content }) => content)).toContain('question 0');
      expect(messages).toHaveLength(30);
      expect((await read('s'))?.chunks.length).toBeGreaterThan(0);
      const cost = async (on: Instance, session_id: string) => {
        on.counted.reset();
        await on.prompt('what does it cost?', { session_id });
        return ['conversations', 'messages', 'turns'].map((collection) => on.counted.byCollection.get(collection));
      };
      expect(await cost(a, 's')).toEqual(await cost(c, 'kept for good'));
    });

    it('the days of a session count before those of the deployment', async () => {
      for (const session_id of ['short', 'long', 'default']) await a.prompt('hello', { session_id });
      await b.call(conversationUpdate, { session_id: 'short', retention_days: 1 });
      await b.call(conversationUpdate, { session_id: 'long', retention_days: 9 });
      fixture.clock.advance(1.5 * DAY_MS);
      expect(await listed(b)).toEqual(['default', 'long']);
      fixture.clock.advance(DAY_MS);
      expect(await listed(b)).toEqual(['long']);
      expect(await listed(c)).toEqual(['default', 'long']);
      fixture.clock.advance(7 * DAY_MS);
      expect(await listed(b)).toEqual([]);
    });

    it('the sweep erases every document of an expired session and its part of the total, and no other', async () => {
      fixture.provider.behave(() => ({ text: 'y'.repeat(600_000) }));
      const gone = await a.prompt('x'.repeat(100_000), { session_id: 'gone', idempotency_key: 'k' });
      fixture.provider.behave(() => ({ text: 'answer' }));
      for (let n = 0; n < 12; n++) await a.prompt(`question ${n}`, { session_id: 'gone' });
      // A dropped branch, and the record of a Codex thread.
      await a.prompt('edited', { session_id: 'gone', after_seq: 4 });
      const rollouts = createRollouts(fixture.store, fixture.clock);
      const id = gone.conversation_id;
      await rollouts.save(id, Buffer.from('record'), { signal: AbortSignal.timeout(10_000) });
      // The total is written after the turn has ended.
      const collections = async () => [...new Set((await fixture.documents()).map((path) => path.split('/')[0]))];
      await expect.poll(collections).toEqual(expect.arrayContaining(SESSION_COLLECTIONS));
      fixture.clock.advance(DAY_MS);
      const used = await a.prompt('hello', { session_id: 'used' });
      fixture.clock.advance(3 * DAY_MS);
      await change('used', (stored) => ({ ...stored, retention_days: 30 }));
      expect(await b.services.conversations.eraseExpired()).toBe(1);
      const documents = await fixture.documents();
      expect(documents.filter((path) => path.includes(id))).toEqual([]);
      const turns = Turns.query({ where: { conversation: id }, orderBy: 'started_at', limit: 1, withExpired: true });
      expect(await fixture.store.query(turns)).toEqual([]);
      const others = documents.filter((path) => !/^(conversations|limits|usage|storage)\//.test(path));
      expect(others.filter((path) => !path.includes(used.turn_id))).toEqual([]);
      expect(await read('gone')).toBeUndefined();
      expect(await read('used')).toMatchObject({ conversation_id: used.conversation_id });
      await Promise.all([a, b].map(({ services }) => services.conversations.ledger.flush()));
      const [total] = await fixture.store.get([storageRef('default')]);
      expect(StorageTotals.read(total)?.bytes).toBe((await read('used'))?.counted_bytes);
      // The sweep has stored when the session expires now.
      expect((await read('used'))?.expires_on).toBe(
        new Date(fixture.clock.now() + 27 * DAY_MS).toISOString().slice(0, 10),
      );
    });

    it('a session of an older version is read as expired by its last use, and gets its day with the next prompt', async () => {
      for (const session_id of ['old', 'older']) await c.prompt('hello', { session_id });
      expect(await read('old')).not.toHaveProperty('expires_on');
      fixture.clock.advance(1.5 * DAY_MS);
      await a.prompt('again', { session_id: 'old' });
      expect((await read('old'))?.expires_on).toBe(
        new Date(fixture.clock.now() + 2 * DAY_MS).toISOString().slice(0, 10),
      );
      expect(await listed(b)).toEqual(['old', 'older']);
      fixture.clock.advance(DAY_MS);
      expect(await listed(b)).toEqual(['old']);
      // Without days it is kept for good again.
      await c.prompt('again', { session_id: 'old' });
      expect(await read('old')).not.toHaveProperty('expires_on');
    });

    it('a clock that has just stepped ahead erases nothing', async () => {
      await a.prompt('hello', { session_id: 's' });
      fixture.clock.advance(11 * MINUTE_MS);
      fixture.clock.step(30 * DAY_MS);
      expect(await a.services.conversations.eraseExpired()).toBe(0);
      fixture.clock.step(-30 * DAY_MS);
      expect(await isFound(a, 's')).toBe(true);
    });

    it('a server or a terminal that starts in an expired session starts in a new one', async () => {
      const first = await a.prompt('hello', { session_id: 's' });
      fixture.clock.advance(3 * DAY_MS);
      const session = { owner: 'default', sessionId: 's' };
      await b.services.conversations.markCompanionState(session, 'terminal', { isStarted: false });
      expect(await read('s')).toMatchObject({ conversation_id: first.conversation_id });
      await b.services.conversations.markCompanionState(session, 'terminal', { isStarted: true });
      const second = await read('s');
      expect(second).toMatchObject({ companion: ['terminal'], message_count: 0 });
      expect(second?.conversation_id).not.toBe(first.conversation_id);
    });
  });
}
