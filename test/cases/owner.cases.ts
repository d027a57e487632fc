// owner.erase leaves only the record of the owner's limits. The documents are read as the database stores them, from
// every collection. Run against every adapter of the Store port.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { issueTicket } from '../../shared/auth/tickets.ts';
import type { WallClock } from '../../shared/clock.ts';
import { Conversations, conversationRef } from '../../shared/conversations/records/documents.ts';
import { createRollouts } from '../../shared/conversations/records/rollouts.ts';
import { conversationList } from '../../shared/methods/conversation.list.ts';
import { ownerErase } from '../../shared/methods/owner.erase.ts';
import { toLimitRef } from '../../shared/rate-limit/windows/limit-document.ts';
import type { Store } from '../../shared/store/store.ts';
import { DOCUMENT_EXAMPLES } from '../support/fixtures/database/document-examples.ts';
import { DOCUMENT_TYPES } from '../support/fixtures/database/document-types.ts';
import {
  createFixture,
  type Fixture,
  failure,
  type Instance,
  isDelta,
} from '../support/fixtures/turns/conversations.ts';

const OWNER = 'owner-7f3a';
const OTHER = 'another-owner';

export interface RawStore {
  readonly openStore: (clock: WallClock) => Store;
  /** Every stored document, `collection/id` and its text. */
  rows(): Promise<ReadonlyMap<string, string>>;
}

export function ownerCases(name: string, openRaw: () => Promise<RawStore>): void {
  describe(`owner.erase on ${name}`, () => {
    let raw: RawStore;
    let fixture: Fixture;
    let a: Instance;
    let b: Instance;
    beforeEach(async () => {
      raw = await openRaw();
      // An instance that returns finds with its next heartbeat that its lease is lost.
      fixture = await createFixture({ openStore: raw.openStore, env: { GATEWAY_HEARTBEAT_MS: '500' } });
      fixture.provider.behave(() => ({ text: 'answer' }));
      [a, b] = [await fixture.instance(), await fixture.instance()];
    });
    afterEach(() => fixture.close());

    const flush = async () => {
      for (const { services } of [a, b]) await services.conversations.ledger.flush();
    };
    const eraseOnce = (on: Instance) => on.call(ownerErase, { confirm: OWNER }, { owner: OWNER });
    const erase = async (on: Instance): Promise<void> => {
      for (let calls = 0; calls < 20; calls++) if ((await eraseOnce(on)).done) return;
      throw new Error('the erasure does not end');
    };
    const LIMITS = `limits/${toLimitRef(OWNER).id}`;
    /** Exactly the documents of before are stored, and the record of the limits without content. */
    const expectErased = async (before: ReadonlyMap<string, string>): Promise<void> => {
      await flush();
      const rows = await raw.rows();
      expect([...rows.keys()].filter((path) => !before.has(path) && path !== LIMITS)).toEqual([]);
      expect([...before.keys()].filter((path) => !rows.has(path))).toEqual([]);
      expect([...rows.values()].filter((text) => text.includes(OWNER))).toEqual([]);
      expect(rows.get(LIMITS)).toMatch(/erased/);
    };

    it('an erasure erases sessions with all that belongs to them, and nothing of another owner', async () => {
      await a.prompt('mine', { session_id: 's0' }, { owner: OTHER });
      await flush();
      const before = await raw.rows();
      await a.prompt('x'.repeat(100_000), { session_id: 's0', idempotency_key: 'k' }, { owner: OWNER });
      for (let n = 0; n < 12; n++) await b.prompt(`question ${n}`, { session_id: 's0' }, { owner: OWNER });
      fixture.provider.behave(() => ({ status: 529 }));
      await failure(a.prompt('fails', { session_id: 's1', idempotency_key: 'l' }, { owner: OWNER }));
      fixture.provider.behave(() => ({ text: 'answer' }));
      for (let n = 2; n < 25; n++) await b.prompt('hello', { session_id: `s${n}` }, { owner: OWNER });
      const [snapshot] = await fixture.store.get([conversationRef(OWNER, 's0')]);
      const id = Conversations.read(snapshot)?.conversation_id ?? '';
      const signal = new AbortController().signal;
      await createRollouts(fixture.store, fixture.clock).save(id, Buffer.from('record'), { signal });
      await flush();
      await erase(b);
      await expectErased(before);
      expect((await a.call(conversationList, {}, { owner: OWNER })).conversations).toEqual([]);
      expect((await a.call(conversationList, {}, { owner: OTHER })).conversations).toHaveLength(1);
      // The owner may go on.
      expect(await a.prompt('again', { session_id: 's0' }, { owner: OWNER })).toMatchObject({ content: 'answer' });
    });

    it('an erasure erases documents of every declared type, expired ones too', async () => {
      const before = await raw.rows();
      for (const expireAtMs of [undefined, fixture.clock.now() - 1_000]) {
        const writes = DOCUMENT_TYPES.flatMap((type) => {
          const { collection, owned } = type.definition;
          if (typeof owned !== 'object' || type === Conversations) return [];
          const order = 'orderBy' in owned ? { [owned.orderBy]: 1 } : {};
          const id = 'idOf' in owned ? owned.idOf(OWNER) : `${collection}-${expireAtMs ?? 'kept'}`;
          const data = { ...order, ...DOCUMENT_EXAMPLES[collection], owner: OWNER };
          return [{ ref: type.ref(id), data, ...(expireAtMs !== undefined && { expireAtMs }) }];
        });
        await fixture.store.commit(writes);
      }
      const caller = { keyId: OWNER, scopes: new Set<never>(), limits: [], digest: new Uint8Array(32) };
      await issueTicket({ store: fixture.store, clock: fixture.clock }, caller);
      expect((await raw.rows()).size).toBeGreaterThan(before.size + 15);
      await erase(a);
      await expectErased(before);
    });

    it('an erasure continues where a call stopped, on another instance, also in a session that was half deleted', async () => {
      const before = await raw.rows();
      for (const session_id of ['s0', 's1']) await a.prompt('x'.repeat(50_000), { session_id }, { owner: OWNER });
      await flush();
      // As a crash leaves them: marked, and nothing else.
      const ref = conversationRef(OWNER, 's0');
      const [snapshot] = await fixture.store.get([ref]);
      const stored = Conversations.read(snapshot);
      if (stored === undefined) throw new Error('not stored');
      await fixture.store.commit([Conversations.write(ref, { ...stored, owner: '', deleted: true })]);
      const stopped = await a.services.conversations.eraseOwner(OWNER, AbortSignal.abort());
      expect(stopped).toMatchObject({ isDone: false });
      await erase(b);
      await expectErased(before);
      expect(await eraseOnce(a)).toEqual({ owner: OWNER, done: true, sessions: 0, documents: 0 });
    });

    it('a turn that runs on another instance is stopped, and writes nothing afterwards', async () => {
      const before = await raw.rows();
      fixture.provider.behave(() => ({ chunks: ['one', 'two'], hang: 'stream' }));
      const running = a.stream('prompt', { session_id: 's', idempotency_key: 'k' }, { owner: OWNER });
      await running.until(isDelta);
      const queued = a.prompt('next', { session_id: 's', on_busy: 'queue' }, { owner: OWNER });
      queued.catch(() => {});
      await erase(b);
      expect(await failure(running.answer)).toMatchObject({ reason: 'cancelled' });
      expect(await failure(queued)).toMatchObject({ reason: 'cancelled' });
      await expectErased(before);
    });

    it('a turn whose instance has died is waited for until its lease has expired', async () => {
      const before = await raw.rows();
      fixture.provider.behave(() => ({ chunks: ['one'], hang: 'stream' }));
      const running = a.stream('prompt', { session_id: 's' }, { owner: OWNER });
      await running.until(isDelta);
      a.line.state = 'down';
      expect(await eraseOnce(b)).toMatchObject({ done: false, retry_after_ms: expect.any(Number) });
      fixture.clock.advance(31_000);
      await erase(b);
      await b.services.conversations.ledger.flush();
      expect([...(await raw.rows()).keys()].filter((path) => !before.has(path))).toEqual([LIMITS]);
      a.line.state = 'up';
      await failure(running.answer);
      await expectErased(before);
    });

    it('counts that another instance has not written yet go to the record of the limits', async () => {
      const before = await raw.rows();
      const { usage } = await a.prompt('hello', { session_id: 's' }, { owner: OWNER });
      // `a` writes its count after the erasure.
      a.line.state = 'down';
      await erase(b);
      a.line.state = 'up';
      await expectErased(before);
      const { usage_today } = await b.call(conversationList, {}, { owner: OWNER });
      expect(usage_today.total_tokens).toBe(usage.total_tokens);
    });

    it('tokens of the day are kept after the erasure, so that an erasure cannot extend the budget', async () => {
      const [poor] = [await fixture.instance({ GATEWAY_DAILY_TOKENS: '1' })];
      await poor.prompt('hello', { session_id: 's' }, { owner: OWNER });
      await poor.services.conversations.ledger.flush();
      for (let n = 0; n < 2; n++) {
        await erase(poor);
        expect(await failure(poor.prompt('more', { session_id: 's' }, { owner: OWNER }))).toMatchObject({
          reason: 'rate_limited',
          data: { detail: 'daily_tokens' },
        });
      }
    });

    it('an erasure is refused without the id of the owner, and for another owner without the scope admin', async () => {
      await a.prompt('hello', { session_id: 's' }, { owner: OWNER });
      const wrong = await failure(a.call(ownerErase, { confirm: OTHER }, { owner: OWNER }));
      expect(wrong).toMatchObject({ reason: 'invalid_params', data: { issues: [{ path: 'confirm' }] } });
      const unnamed = await failure(a.call(ownerErase, { confirm: OTHER, owner: OWNER }, { owner: OTHER }));
      expect(unnamed).toMatchObject({ reason: 'invalid_params' });
      const scopes = ['conversation'] as const;
      const foreign = failure(a.call(ownerErase, { confirm: OWNER, owner: OWNER }, { owner: OTHER, scopes }));
      expect(await foreign).toMatchObject({ reason: 'forbidden', data: { missing_scope: 'admin' } });
      expect((await a.call(conversationList, {}, { owner: OWNER })).conversations).toHaveLength(1);
      const admin = await a.call(ownerErase, { confirm: OWNER, owner: OWNER }, { owner: OTHER });
      expect(admin).toMatchObject({ owner: OWNER, done: true, sessions: 1 });
    });
  });
}
