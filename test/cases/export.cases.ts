// owner.export returns everything of an owner, nothing of another owner and no secrets, in pages that stay exact while
// other calls write. Run against every adapter of the Store port.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Conversations, conversationRef } from '../../shared/conversations/records/documents.ts';
import { createRollouts } from '../../shared/conversations/records/rollouts.ts';
import { conversationDelete } from '../../shared/methods/conversation.delete.ts';
import { conversationUpdate } from '../../shared/methods/conversation.update.ts';
import { ownerExport } from '../../shared/methods/owner.export.ts';
import { DOCUMENT_EXAMPLES } from '../support/fixtures/database/document-examples.ts';
import { DOCUMENT_TYPES } from '../support/fixtures/database/document-types.ts';
import { type Fixture, failure, type Instance } from '../support/fixtures/turns/conversations.ts';

const OWNER = 'owner-7f3a';
const OTHER = 'another-owner';
const PAGE_BYTES = 1 << 20;
const DAY_MS = 86_400_000;

type Line = Readonly<Record<string, unknown>>;

export function exportCases(name: string, openFixture: () => Promise<Fixture>): void {
  describe(`owner.export on ${name}`, () => {
    let fixture: Fixture;
    let a: Instance;
    let b: Instance;
    beforeEach(async () => {
      fixture = await openFixture();
      fixture.provider.behave(() => ({ text: 'answer' }));
      [a, b] = [await fixture.instance(), await fixture.instance()];
    });
    afterEach(() => fixture.close());

    const page = (cursor?: string, limit?: number) =>
      b.call(ownerExport, { ...(cursor && { cursor }), ...(limit && { limit }) }, { owner: OWNER });
    const linesOf = (ndjson: string): Line[] =>
      ndjson
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line));
    const exportAll = async (limit?: number, from?: string): Promise<{ lines: Line[]; pages: string[] }> => {
      const [lines, pages]: [Line[], string[]] = [[], []];
      for (let cursor = from; ; ) {
        const result = await page(cursor, limit);
        expect(Buffer.byteLength(JSON.stringify(result))).toBeLessThanOrEqual(PAGE_BYTES);
        expect(linesOf(result.ndjson)).toHaveLength(result.lines);
        lines.push(...linesOf(result.ndjson));
        pages.push(result.ndjson);
        cursor = result.next_cursor;
        if (cursor === undefined) return { lines, pages };
      }
    };
    /** Objects that were split are put together. */
    const whole = (lines: readonly Line[]): Line[] => {
      const found: Line[] = [];
      let json = '';
      for (const line of lines) {
        if (typeof line.json !== 'string') found.push(line);
        else {
          json = line.piece === 1 ? line.json : json + line.json;
          if (line.piece === line.pieces) found.push(JSON.parse(json));
        }
      }
      return found;
    };
    const messagesOf = (lines: readonly Line[]) =>
      whole(lines).flatMap(({ type, session_id, seq, content }) =>
        type === 'message' ? [`${session_id} ${seq} ${content}`] : [],
      );

    it('an export has everything of the owner, once, and nothing of another; pages of any size are the same file', async () => {
      await a.prompt('of another', { session_id: 's0' }, { owner: OTHER });
      const long = `"\\ \u0001 ä 漢 \n${'x'.repeat(400_000)}${'"'.repeat(200_000)}`;
      await a.prompt(long, { session_id: 's0', idempotency_key: 'k' }, { owner: OWNER });
      for (let n = 0; n < 14; n++) await b.prompt(`question ${n}`, { session_id: 's1' }, { owner: OWNER });
      await a.call(conversationUpdate, { session_id: 's1', title: 'T', metadata: { a: 'b' } }, { owner: OWNER });
      const [snapshot] = await fixture.store.get([conversationRef(OWNER, 's1')]);
      const id = Conversations.read(snapshot)?.conversation_id ?? '';
      const record = Buffer.alloc(900_000, 'record of Codex');
      await createRollouts(fixture.store, fixture.clock).save(id, record, { signal: AbortSignal.timeout(10_000) });
      for (const { services } of [a, b]) await services.conversations.ledger.flush();

      const { lines, pages } = await exportAll();
      const items = whole(lines);
      expect(messagesOf(lines)).toEqual([
        `s0 1 ${long}`,
        's0 2 answer',
        ...Array.from({ length: 14 }, (_, n) => [`s1 ${2 * n + 1} question ${n}`, `s1 ${2 * n + 2} answer`]).flat(),
      ]);
      const session = items.find(({ type, session_id }) => type === 'session' && session_id === 's1');
      expect(session).toMatchObject({ title: 'T', metadata: { a: 'b' }, message_count: 28 });
      const data = items.flatMap((item) => (item.type === 'codex_record' ? [item.data] : [])).join('');
      expect(Buffer.from(data, 'base64').equals(record)).toBe(true);
      const types = new Set(items.map(({ type }) => type));
      const expected = ['session', 'message', 'codex_record', 'turns', 'idempotency', 'usage', 'storage'];
      expect([...types].sort()).toEqual(expected.sort());
      expect(JSON.stringify(items)).not.toContain('of another');
      expect((await exportAll(3)).pages.join('')).toBe(pages.join(''));
    });

    it('an export has documents of every declared type, without secrets', async () => {
      const types = DOCUMENT_TYPES.filter(({ definition }) => typeof definition.owned === 'object');
      await fixture.store.commit(
        types.map((type) => {
          const { collection, owned, secret = [] } = type.definition;
          const order = typeof owned === 'object' && 'orderBy' in owned ? { [owned.orderBy]: 1 } : {};
          const id = typeof owned === 'object' && 'idOf' in owned ? owned.idOf(OWNER) : collection;
          const secrets = Object.fromEntries(secret.map((field) => [field, 'SECRET']));
          return { ref: type.ref(id), data: { ...order, ...DOCUMENT_EXAMPLES[collection], owner: OWNER, ...secrets } };
        }),
      );
      const { lines } = await exportAll();
      const names = types.map(({ definition: { collection } }) =>
        collection === 'conversations' ? 'session' : collection,
      );
      expect([...new Set(lines.map(({ type }) => type))].sort()).toEqual([...names, 'message'].sort());
      expect(JSON.stringify(lines)).not.toContain('SECRET');
    });

    it('an export stays exact while other calls write: nothing twice, nothing lost', async () => {
      for (const session_id of ['s0', 's1', 's2']) {
        for (let n = 0; n < 3; n++) await a.prompt(`${n}`, { session_id }, { owner: OWNER });
        fixture.clock.advance(1_000);
      }
      // Ends within the second session.
      const first = await page(undefined, 10);
      await a.prompt('late', { session_id: 's0' }, { owner: OWNER });
      await a.prompt('late', { session_id: 's1' }, { owner: OWNER });
      await a.prompt('late', { session_id: 's3' }, { owner: OWNER });
      await a.call(conversationDelete, { session_id: 's2' }, { owner: OWNER });
      const { lines } = await exportAll(2, first.next_cursor);
      const messages = messagesOf([...linesOf(first.ndjson), ...lines]);
      const before = ['1 0', '2 answer', '3 1', '4 answer', '5 2', '6 answer'];
      expect(messages).toEqual([
        ...before.map((text) => `s0 ${text}`),
        ...[...before, '7 late', '8 answer'].map((text) => `s1 ${text}`),
        's3 1 late',
        's3 2 answer',
      ]);
    });

    it('an export continues after a session that was erased between two pages', async () => {
      for (const session_id of ['s0', 's1']) {
        await a.prompt('hello', { session_id }, { owner: OWNER });
        fixture.clock.advance(1_000);
      }
      const first = await page(undefined, 2);
      await a.call(conversationDelete, { session_id: 's0' }, { owner: OWNER });
      const { lines } = await exportAll(undefined, first.next_cursor);
      expect(messagesOf(lines)).toEqual(['s1 1 hello', 's1 2 answer']);
    });

    it('an export has no session that has expired', async () => {
      await a.prompt('old', { session_id: 's0' }, { owner: OWNER });
      await a.call(conversationUpdate, { session_id: 's0', retention_days: 1 }, { owner: OWNER });
      const first = await page(undefined, 1);
      fixture.clock.advance(2 * DAY_MS);
      await a.prompt('new', { session_id: 's1' }, { owner: OWNER });
      expect(messagesOf((await exportAll()).lines)).toEqual(['s1 1 new', 's1 2 answer']);
      expect(messagesOf((await exportAll(undefined, first.next_cursor)).lines)).toEqual(['s1 1 new', 's1 2 answer']);
    });

    it('an export of another owner needs the scope admin, and a cursor of another owner shows nothing of it', async () => {
      await a.prompt('hello', { session_id: 's0' }, { owner: OWNER });
      const { next_cursor = '' } = await page(undefined, 1);
      const foreign = await b.call(ownerExport, { cursor: next_cursor }, { owner: OTHER });
      expect(foreign).toEqual({ owner: OTHER, ndjson: '', lines: 0 });
      const refused = failure(b.call(ownerExport, { owner: OWNER }, { owner: OTHER, scopes: ['conversation'] }));
      expect(await refused).toMatchObject({ reason: 'forbidden', data: { missing_scope: 'admin' } });
      expect(messagesOf(linesOf((await b.call(ownerExport, { owner: OWNER }, { owner: OTHER })).ndjson))).toHaveLength(
        2,
      );
      const bad = ['x', Buffer.from('["nothing","",""]').toString('base64url')];
      for (const cursor of [...bad, Buffer.from('["secrets","","",["",0],0]').toString('base64url')]) {
        expect(await failure(page(cursor))).toMatchObject({ reason: 'invalid_params' });
      }
    });
  });
}
