// A fork of a session is complete and independent of its source, contains no dropped message, has a name that no other
// session has, and counts as storage. A fork that fails leaves no document. Run against every adapter of the Store
// port.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { conversationRef } from '../../../shared/conversations/records/documents.ts';
import { StorageTotals, storageRef } from '../../../shared/conversations/records/storage.ts';
import { RpcError } from '../../../shared/errors.ts';
import { conversationDelete } from '../../../shared/methods/conversation.delete.ts';
import { conversationFork } from '../../../shared/methods/conversation.fork.ts';
import { conversationList } from '../../../shared/methods/conversation.list.ts';
import { conversationStatus } from '../../../shared/methods/conversation.status.ts';
import { conversationUpdate } from '../../../shared/methods/conversation.update.ts';
import { type Fixture, failure, type Instance, isDelta } from '../../support/fixtures/turns/conversations.ts';
import { readHistory, sentStarts } from '../../support/fixtures/turns/histories.ts';

export function forkCases(name: string, openFixture: () => Promise<Fixture>): void {
  describe(`forked sessions on ${name}`, () => {
    let fixture: Fixture;
    let a: Instance;
    let b: Instance;
    let sessions = 0;
    const fresh = (): string => `fork${++sessions}`;

    beforeAll(async () => {
      fixture = await openFixture();
      a = await fixture.instance();
      b = await fixture.instance();
      fixture.provider.behave(({ index }) => ({ text: `a${index};` }));
    });
    afterAll(() => fixture.close());

    const read = (session_id: string, owner = 'default') => readHistory(b, session_id, { owner });
    const sent = (): string[] => sentStarts(fixture);
    const firstWords = (messages: readonly { content: string }[]) =>
      messages.map(({ content }) => content.split(' ')[0]);
    const countedBytes = async (owner: string): Promise<number> => {
      for (const { services } of [a, b]) await services.conversations.ledger.flush();
      const [snapshot] = await fixture.store.get([storageRef(owner)]);
      return StorageTotals.read(snapshot)?.bytes ?? 0;
    };
    const documentsOf = async (conversation: string) =>
      (await fixture.documents()).filter((path) => path.includes(conversation));

    it('a fork copies the messages up to a number: older ones, long texts, title and metadata, not the tokens', async () => {
      const [owner, session_id, new_session_id] = [`forker-${name.length}`, fresh(), fresh()];
      const how = { owner };
      for (let n = 0; n < 18; n++) {
        const filler = n % 6 === 5 ? ' words'.repeat(8_000) : '';
        await (n % 2 === 0 ? a : b).prompt(`p${n};${filler}`, { session_id }, how);
      }
      const metadata = { user: 'u1' };
      await a.call(conversationUpdate, { session_id, metadata }, how);
      const source = await read(session_id, owner);
      const before = await countedBytes(owner);
      const fork = await a.call(conversationFork, { session_id, to_seq: 25, new_session_id }, how);
      expect(fork).toMatchObject({
        session_id: new_session_id,
        status: 'idle',
        message_count: 25,
        title: 'p0;',
        metadata,
        usage: { total_tokens: 0 },
      });
      expect(await read(new_session_id, owner)).toEqual(source.slice(0, 25));
      const copied = source.slice(0, 25).reduce((sum, { content }) => sum + Buffer.byteLength(content) + 200, 0);
      expect((await countedBytes(owner)) - before).toBe(copied);
      const { conversations } = await b.call(conversationList, { metadata, limit: 5 }, how);
      expect(conversations.map((session) => session.session_id)).toEqual([new_session_id, session_id]);
      // The two do not touch each other.
      const { content } = await b.prompt('p90;', { session_id: new_session_id }, how);
      expect(sent()).toEqual([...firstWords(source.slice(0, 25)), 'p90;']);
      await a.prompt('p91;', { session_id }, how);
      expect(sent()).toEqual([...firstWords(source), 'p91;']);
      await a.call(conversationDelete, { session_id }, how);
      const kept = await read(new_session_id, owner);
      expect(firstWords(kept)).toEqual([...firstWords(source.slice(0, 25)), 'p90;', content]);
      await b.call(conversationDelete, { session_id: new_session_id }, how);
      expect(await documentsOf(fork.conversation_id)).toEqual([]);
      expect(await countedBytes(owner)).toBe(0);
    });

    it('a fork copies nothing of a dropped branch', async () => {
      const session_id = fresh();
      for (let n = 0; n < 14; n++) await a.prompt(`p${n};`, { session_id });
      await b.prompt('p50;', { session_id, after_seq: 5 });
      const { session_id: copy, conversation_id } = await a.call(conversationFork, { session_id });
      expect(await read(copy)).toEqual(await read(session_id));
      const paths = await documentsOf(conversation_id);
      const refs = paths.map((path) => path.split('/')).map(([collection = '', id = '']) => ({ collection, id }));
      const stored = JSON.stringify(refs.length === 0 ? [] : await fixture.store.get(refs));
      for (let n = 3; n < 14; n++) expect(stored).not.toContain(`"p${n};"`);
      for (let n = 51; n < 70; n++) await (n % 2 === 0 ? a : b).prompt(`p${n};`, { session_id: copy });
      const prompts = firstWords(await read(copy)).filter((word) => word?.startsWith('p'));
      const kept = [0, 1, 2, ...Array.from({ length: 20 }, (_, n) => n + 50)].map((n) => `p${n};`);
      // Message 5 is a prompt: its answer and all later messages were dropped.
      expect(prompts).toEqual(kept);
      expect(sent().filter((word) => word.startsWith('p'))).toEqual(kept);
    });

    it('a fork copies the stored messages of a session while a turn runs in it', async () => {
      const session_id = fresh();
      await a.prompt('p1;', { session_id });
      fixture.provider.behave(() => ({ chunks: ['a2;'], hang: 'stream' }));
      const running = a.stream('p2;', { session_id });
      await running.until(isDelta);
      const fork = await b.call(conversationFork, { session_id });
      expect(fork).toMatchObject({ status: 'idle', message_count: 3 });
      expect(await b.call(conversationStatus, { session_id })).toMatchObject({ status: 'running' });
      await a.call(conversationDelete, { session_id });
      await failure(running.answer);
      fixture.provider.behave(({ index }) => ({ text: `a${index};` }));
      expect(firstWords(await read(fork.session_id)).filter((word) => word !== undefined)).toHaveLength(3);
    });

    it('ten forks of a session at a time are all made', async () => {
      const session_id = fresh();
      await a.prompt('one', { session_id });
      const names = Array.from({ length: 10 }, fresh);
      await Promise.all(
        names.map((new_session_id, n) => (n % 2 === 0 ? a : b).call(conversationFork, { session_id, new_session_id })),
      );
      for (const name of names) expect(firstWords(await read(name))[0]).toBe('one');
    });

    it('a fork of what is missing, to a taken name or beyond the end is refused, and stores nothing', async () => {
      const session_id = fresh();
      await a.prompt('p1;', { session_id });
      const fork = (params: object, owner = 'default') =>
        failure(a.call(conversationFork, { session_id, ...params }, { owner }));
      const before = await fixture.documents();
      const foreign = await fork({}, 'another');
      expect(foreign).toMatchObject({ reason: 'not_found', message: 'no such session', data: { session_id } });
      expect(await fork({ to_seq: 3 })).toMatchObject({
        reason: 'invalid_params',
        data: { issues: [{ path: 'to_seq', message: expect.stringContaining('at most 2') }] },
      });
      expect(await fork({ new_session_id: session_id })).toMatchObject({ reason: 'conflict', retryable: false });
      expect(await fixture.documents()).toEqual(before);
      // Of equal forks at once, one succeeds.
      const new_session_id = fresh();
      const outcomes = await Promise.allSettled(
        [a, b, a, b].map((instance) => instance.call(conversationFork, { session_id, new_session_id })),
      );
      const failed = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []));
      expect(failed).toMatchObject(Array.from({ length: 3 }, () => ({ reason: 'conflict' })));
      expect(await read(new_session_id)).toEqual(await read(session_id));
      await b.call(conversationDelete, { session_id });
      const deleted = await fork({});
      expect([deleted.reason, deleted.message, deleted.data]).toEqual([foreign.reason, foreign.message, foreign.data]);
      // The name of a deleted session is free.
      const again = await a.call(conversationFork, { session_id: new_session_id, new_session_id: session_id });
      expect(again).toMatchObject({ session_id, message_count: 2 });
    });

    it('a fork copies more than one commit holds, or leaves nothing of it, also where the instance ends', async () => {
      const session_id = fresh();
      for (let n = 0; n < 6; n++) await a.prompt(`p${n}; ${'x'.repeat(900_000)}`, { session_id });
      const whole = await a.call(conversationFork, { session_id });
      expect(await read(whole.session_id)).toEqual(await read(session_id));
      const before = await fixture.documents();
      const new_session_id = fresh();
      const victim = await fixture.instance();
      const { commit } = victim.line;
      let commits = 0;
      Object.assign(victim.line, {
        commit: (...args: Parameters<typeof commit>) => {
          if (++commits > 2) victim.line.state = 'down';
          return commit(...args);
        },
      });
      expect(await failure(victim.call(conversationFork, { session_id, new_session_id }))).toMatchObject({
        reason: 'unavailable',
      });
      expect((await fixture.documents()).length).toBeGreaterThan(before.length + 1);
      const status = await b.call(conversationStatus, { session_id: new_session_id });
      expect(status).toMatchObject({ status: 'not_found' });
      // A delete, or the next prompt or fork with this name, erases what was copied.
      await b.call(conversationDelete, { session_id: new_session_id });
      expect((await fixture.documents()).filter((path) => !/^(usage|storage)\//.test(path))).toEqual(
        before.filter((path) => !/^(usage|storage)\//.test(path)),
      );
      expect(await b.call(conversationFork, { session_id, new_session_id })).toMatchObject({ message_count: 12 });
    }, 60_000);

    it('a fork whose last commit is applied without an answer is complete, and keeps all of its messages', async () => {
      const session_id = fresh();
      const how = { owner: `lost-${name.length}` };
      for (let n = 0; n < 6; n++) await a.prompt(`p${n}; ${'x'.repeat(900_000)}`, { session_id }, how);
      const { collection } = conversationRef(how.owner, session_id);
      for (const isReadable of [true, false]) {
        const bytesBefore = await countedBytes(how.owner);
        const new_session_id = fresh();
        const victim = await fixture.instance();
        const { commit, get } = victim.line;
        let isClaimed = false;
        Object.assign(victim.line, {
          commit: async (...args: Parameters<typeof commit>) => {
            const versions = await commit(...args);
            // The last one writes the fork and its source.
            const sessionsWritten = args[0].filter(({ ref }) => ref.collection === collection).length;
            isClaimed ||= sessionsWritten === 1;
            if (sessionsWritten !== 2) return versions;
            if (!isReadable) Object.assign(victim.line, { get: () => Promise.reject(new RpcError('unavailable')) });
            throw new RpcError('unavailable');
          },
        });
        const forked = victim.call(conversationFork, { session_id, new_session_id }, how);
        if (isReadable) await forked;
        else expect(await failure(forked)).toMatchObject({ reason: 'unavailable' });
        Object.assign(victim.line, { get });
        expect(isClaimed).toBe(true);
        expect(await read(new_session_id, how.owner)).toEqual(await read(session_id, how.owner));
        await victim.services.conversations.ledger.flush();
        if (isReadable) expect(await countedBytes(how.owner)).toBeGreaterThan(bytesBefore + 5_000_000);
      }
    }, 60_000);

    it('a fork of a session that is deleted or edited just before the commit is not stored', async () => {
      for (const isDeleted of [true, false]) {
        const session_id = fresh();
        for (const prompt of ['p1;', 'p2;']) await a.prompt(prompt, { session_id });
        const victim = await fixture.instance();
        const { commit } = victim.line;
        let isFirst = true;
        Object.assign(victim.line, {
          commit: async (...args: Parameters<typeof commit>) => {
            if (isFirst) {
              isFirst = false;
              if (isDeleted) await b.call(conversationDelete, { session_id });
              else await b.prompt('p3;', { session_id, after_seq: 2 });
            }
            return commit(...args);
          },
        });
        const forked = victim.call(conversationFork, { session_id });
        if (isDeleted) expect(await failure(forked)).toMatchObject({ reason: 'not_found' });
        else expect(await read((await forked).session_id)).toEqual(await read(session_id));
      }
    });

    it('a fork beyond the storage of the owner is refused', async () => {
      const session_id = fresh();
      const small = await fixture.instance({ GATEWAY_STORAGE_MB: '1' });
      const how = { owner: `full-${name.length}` };
      await small.prompt('x'.repeat(600_000), { session_id }, how);
      await small.services.conversations.ledger.flush();
      const before = await fixture.documents();
      expect(await failure(small.call(conversationFork, { session_id }, how))).toMatchObject({
        reason: 'storage_full',
      });
      expect(await fixture.documents()).toEqual(before);
      expect(await small.call(conversationFork, { session_id, to_seq: 0 }, how)).toMatchObject({ message_count: 0 });
    });
  });
}
