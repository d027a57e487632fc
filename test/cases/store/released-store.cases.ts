// The present code opens stores that released versions have written, and continues with all of their documents. The
// stores are in test/support/fixtures/stores; make-store.ts made them with the code of their version. Run for each
// adapter.
import { createHash } from 'node:crypto';
import { chmodSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { redeemTicket } from '../../../shared/auth/tickets.ts';
import type { WallClock } from '../../../shared/clock.ts';
import { createRollouts } from '../../../shared/conversations/records/rollouts.ts';
import { authLimits } from '../../../shared/methods/auth.limits.ts';
import { conversationDelete } from '../../../shared/methods/conversation.delete.ts';
import { conversationFork } from '../../../shared/methods/conversation.fork.ts';
import { conversationHistory } from '../../../shared/methods/conversation.history.ts';
import { conversationList } from '../../../shared/methods/conversation.list.ts';
import { conversationResume } from '../../../shared/methods/conversation.resume.ts';
import { conversationStatus } from '../../../shared/methods/conversation.status.ts';
import { conversationUpdate } from '../../../shared/methods/conversation.update.ts';
import { deploymentList } from '../../../shared/methods/deployment.list.ts';
import { eventsList } from '../../../shared/methods/events.list.ts';
import type { Ref, Store } from '../../../shared/store/store.ts';
import { sweep } from '../../../shared/webhooks/sweep.ts';
import { DOCUMENT_TYPES } from '../../support/fixtures/database/document-types.ts';
import { createTestClock } from '../../support/fixtures/limiter/rate-limit.ts';
import { createFixture, type Fixture, failure, type Instance } from '../../support/fixtures/turns/conversations.ts';

const STORES = join(import.meta.dirname, '../../support/fixtures/stores');

/** One adapter: the folder of its stores, and how a copy of one is opened. */
export interface ReleasedStores {
  readonly kind: 'embedded' | 'firestore';
  open(directory: string, clock: WallClock): Promise<{ readonly store: Store; readonly refs: readonly Ref[] }>;
}

export function releasedStoreCases({ kind, open }: ReleasedStores): void {
  const versions = readdirSync(STORES, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  describe.each(versions.map(({ name }) => name))(`the ${kind} store of version %s`, (version) => {
    const expected = JSON.parse(readFileSync(join(STORES, version, kind, 'expected.json'), 'utf8'));
    const signal = AbortSignal.timeout(30_000);
    let directory: string;
    let fixture: Fixture;
    let a: Instance;
    let refs: readonly Ref[];

    beforeEach(async () => {
      directory = mkdtempSync(join(tmpdir(), 'released-'));
      cpSync(join(STORES, version, kind), directory, { recursive: true });
      chmodSync(join(directory, 'login.key'), 0o600);
      // The store is as old as it was when its version ended.
      const behindMs = Date.now() - expected.made_at_ms;
      const clock = createTestClock(0);
      const now = () => Date.now() - behindMs + clock.now();
      const opened = await open(directory, { now });
      refs = opened.refs;
      fixture = await createFixture({
        openStore(fixtureClock) {
          Object.assign(fixtureClock, { ...clock, now, monotonic: () => performance.now() + clock.monotonic() });
          return opened.store;
        },
        env: {
          GATEWAY_DATA_DIR: directory,
          GATEWAY_LIMITS: '100/minute,1000/hour,10000/day',
          OPENAI_API_KEY: 'sk-test',
        },
      });
      fixture.provider.behave(() => ({ text: 'answer' }));
      a = await fixture.instance();
    });
    afterEach(async () => {
      await fixture.close();
      rmSync(directory, { recursive: true });
    });

    const historyOf = (session_id: string) => a.call(conversationHistory, { session_id, limit: 200 });

    it('a released store has no document that its declared type does not read', async () => {
      const read = (await fixture.store.get(refs)).map((snapshot) =>
        DOCUMENT_TYPES.find(({ definition }) => definition.collection === snapshot.ref.collection)?.read(snapshot),
      );
      expect(read).not.toContain(undefined);
      expect(read.length).toBeGreaterThan(30);
    });

    it('a released store keeps the history of a session, and the next prompt continues with it', async () => {
      expect(await historyOf('talk')).toMatchObject(expected.history);
      const before = await a.call(conversationStatus, { session_id: 'talk' });
      expect((await a.prompt('and now?', { session_id: 'talk' })).content).toBe('answer');
      const { messages } = await historyOf('talk');
      expect(messages.slice(0, -2)).toMatchObject(expected.history.messages);
      expect(messages.at(-1)).toMatchObject({ role: 'assistant', content: 'answer' });
      const after = await a.call(conversationStatus, { session_id: 'talk' });
      expect(Object(after).metadata.message_count).toBe(Object(before).metadata.message_count + 2);
      expect((await historyOf('long')).messages[0]?.content).toBe(`begin ${'x'.repeat(40_000)} end`);
      const { conversations } = await a.call(conversationList, {});
      expect(conversations.map(({ session_id }) => session_id).toSorted()).toEqual([
        'failed',
        'killed',
        'long',
        'talk',
      ]);
    });

    it('a session of a released store can be forked and edited, and has a title from its next prompt on', async () => {
      const titleOf = async (session_id: string) =>
        Object(await a.call(conversationStatus, { session_id })).metadata.title;
      const { messages } = await historyOf('talk');
      expect(await titleOf('talk')).toBeUndefined();
      const fork = await a.call(conversationFork, { session_id: 'talk', new_session_id: 'talk-2' });
      expect(fork.message_count).toBe(messages.length);
      expect((await historyOf('talk-2')).messages).toEqual(messages);
      expect(await a.call(conversationFork, { session_id: 'long', new_session_id: 'long-2' })).not.toHaveProperty(
        'title',
      );
      expect((await historyOf('long-2')).messages).toEqual((await historyOf('long')).messages);
      await a.prompt('edited', { session_id: 'talk', after_seq: 2 });
      expect((await historyOf('talk')).messages).toMatchObject([
        ...messages.slice(0, 2),
        { seq: 3, content: 'edited' },
        { seq: 4, content: 'answer' },
      ]);
      // The first message of `talk` is no longer in its document.
      await a.prompt('and now?', { session_id: 'failed' });
      expect([await titleOf('talk'), await titleOf('failed')]).toEqual([undefined, 'Hello']);
      const named = await a.call(conversationUpdate, { session_id: 'long', title: 'Old', metadata: { user: 'u' } });
      expect(named).toMatchObject({ title: 'Old', metadata: { user: 'u' } });
      const { conversations } = await a.call(conversationList, { metadata: { user: 'u' } });
      expect(conversations.map(({ session_id }) => session_id)).toEqual(['long']);
    });

    it('a repeated prompt is answered under its idempotency key as before the upgrade, and the failed one too', async () => {
      const repeated = await a.prompt('Hello', { session_id: 'talk', idempotency_key: 'once' });
      expect(repeated).toMatchObject(expected.answered);
      const params = { session_id: 'failed', model: 'openai/gpt-none', idempotency_key: 'no' };
      const { message, data } = expected.refused;
      const { reason, turn_id } = data;
      expect(await failure(a.prompt('Hello', params))).toMatchObject({ message, reason, data: { turn_id } });
      expect(fixture.provider.calls).toBe(0);
      const resumed = await a.call(conversationResume, { session_id: 'talk', turn_id: expected.answered.turn_id });
      expect(resumed).toMatchObject({ status: 'completed' });
    });

    it('a turn that was killed before the upgrade is ended, and its session continues', async () => {
      fixture.clock.advance(31_000);
      await a.prompt('and now?', { session_id: 'killed' });
      const { messages } = await historyOf('killed');
      expect(messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'user', 'assistant']);
      expect(messages[1]?.content).toMatch(/^This is offline/);
      await a.call(conversationDelete, { session_id: 'killed' });
      expect(await a.call(conversationStatus, { session_id: 'killed' })).toMatchObject({ status: 'not_found' });
    });

    it('the windows of keys are counted on after the upgrade', async () => {
      const left = async () => (await a.call(authLimits, {})).windows.map(({ remaining }) => remaining);
      // One call came after the caller had read what was left: the one that was killed.
      const remaining = expected.limits.windows.map((window: { remaining: number }) => window.remaining - 1);
      expect(await left()).toEqual(remaining);
      const { limits } = a.services.config;
      await a.services.limiter.take({ keyId: 'default', limits, cost: 5, mayDegrade: false });
      expect(await left()).toEqual(remaining.map((number: number) => number - 5));
    });

    it('events and deployments of a released store are listed, and the event whose publisher died is published', async () => {
      const { events } = await a.call(eventsList, {});
      expect(events.slice(1)).toMatchObject(expected.listed.events);
      expect(events[0]).toMatchObject({ event_id: expected.unpublished, status: 'recorded' });
      expect((await a.call(deploymentList, {})).deployments).toMatchObject([{ service: 'wrapper', version: 'v2' }]);
      fixture.clock.advance(31_000);
      expect(await sweep(a.services)).toEqual({ published: 1, failed: 0, lost: 0 });
      expect((await a.call(eventsList, {})).events[0]).toMatchObject({ status: 'sent' });
    });

    it('logins, tickets and records of Codex threads of a released store can be opened', async () => {
      const login = await a.services.logins.use('default', expected.login.session_id, signal);
      expect([login.provider, login.token()]).toEqual(['openai', 'sk-of-a-caller']);
      const digest = await redeemTicket({ store: fixture.store, clock: fixture.clock }, expected.ticket.ticket);
      expect(Buffer.from(digest)).toEqual(createHash('sha256').update('dev-key').digest());
      const rollout = await createRollouts(fixture.store, fixture.clock).load('conv_codex', { signal });
      expect(Buffer.from(rollout ?? []).toString()).toBe('the record of a thread');
    });

    it('the usage of the day is continued after the upgrade', async () => {
      const { ledger } = a.services.conversations;
      const before = await ledger.today('default');
      expect(before.turns).toBe(14);
      await a.prompt('hi', { session_id: 'new' });
      await ledger.flush();
      expect((await ledger.today('default')).turns).toBe(15);
    });
  });
}
