// The first commit of a call joins the one that counts it, on the real Firestore emulator. The suite compares the
// commits of whole requests, by collection.
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, expect, inject, test } from 'vitest';
import { systemClock } from '../../../shared/clock.ts';
import { conversationRef } from '../../../shared/conversations/records/documents.ts';
import { toLimitRef, toLimitState } from '../../../shared/rate-limit/windows/limit-document.ts';
import { createFirestoreStore } from '../../../shared/store/firestore/firestore.ts';
import type { Store } from '../../../shared/store/store.ts';
import { type RpcAnswer, until } from '../../support/fixtures/clients/turn-client.ts';
import { type InProcessGateway, startInProcess } from '../../support/fixtures/gateway/in-process.ts';
import { describeWith } from '../../support/requirements.ts';

describeWith('emulators', 'the first commit of a call, with Firestore', () => {
  let store: Store;
  let gateway: InProcessGateway;
  /** The collections of each commit of the limiter, and what became of it. */
  let commits: string[] = [];

  beforeAll(async () => {
    const projectId = `riders-${randomBytes(4).toString('hex')}`;
    const firestore = createFirestoreStore({ projectId, emulatorHost: inject('firestoreHost'), clock: systemClock });
    store = {
      ...firestore,
      async commit(writes, options) {
        const collections = writes.map(({ ref }) => ref.collection).join(' ');
        const isCounted = collections.startsWith('limits');
        try {
          const versions = await firestore.commit(writes, options);
          if (isCounted) commits.push(collections);
          return versions;
        } catch (error) {
          if (isCounted) commits.push(`${collections}: ${error}`);
          throw error;
        }
      },
    };
    gateway = await startInProcess({ GATEWAY_API_KEY: 'dev-key', GATEWAY_LIMITS: '500/day' }, { store });
    // The first commits of an emulator that has just started may take longer than the limiter waits.
    await until(
      () => prompt({ session_id: 'warm' }),
      (answer) => answer.result !== undefined,
    );
  });
  afterAll(async () => {
    await gateway?.close();
    await store?.close();
  });
  beforeEach(() => {
    commits = [];
  });

  async function post(path: string, body: object): Promise<RpcAnswer> {
    const headers = { 'x-api-key': 'dev-key', 'content-type': 'application/json' };
    const response = await fetch(`${gateway.url}${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
    return (await response.json()) as RpcAnswer;
  }

  function prompt(params: object): Promise<RpcAnswer> {
    const all = { prompt: 'hello', model: 'offline/echo', ...params };
    return post('/jsonrpc', { jsonrpc: '2.0', id: 1, method: 'conversation.prompt', params: all });
  }

  async function counted(): Promise<number> {
    const [snapshot] = await store.get([toLimitRef('default')]);
    return toLimitState(snapshot).windows.reduce((sum, { count }) => sum + count, 0);
  }

  test('the first commit of a prompt, with its lease, message and idempotency key, is the one that counts the call', async () => {
    expect(await prompt({ session_id: 'warm' })).toHaveProperty('result.content');
    expect(await prompt({ session_id: 'warm', idempotency_key: 'k' })).toHaveProperty('result.content');
    expect(await prompt({})).toHaveProperty('result.content');
    expect(commits).toEqual(['limits conversations', 'limits conversations idempotency', 'limits conversations']);
  });

  test('the first commit of a webhook, with its record, is the one that counts the call', async () => {
    expect(await post('/webhook', { event: 'a.b', data: {} })).toMatchObject({ status: 'accepted' });
    expect(commits).toEqual(['limits events outbox']);
  });

  test('a prompt in a session that another instance has used is counted once, and runs', async () => {
    const [before] = await store.get([conversationRef('default', 'warm')]);
    if (before?.data === undefined || before.version === null) throw new Error('no session');
    await store.commit([
      { ref: before.ref, data: { ...before.data, title: 'by another instance' }, if: { version: before.version } },
    ]);
    const calls = await counted();
    expect(await prompt({ session_id: 'warm' })).toHaveProperty('result.content');
    expect(commits).toEqual([expect.stringContaining('limits conversations: Conflict'), 'limits']);
    expect(await counted()).toBe(calls + 1);
    const [after] = await store.get([before.ref]);
    expect(after?.data).toMatchObject({ title: 'by another instance', status: 'idle' });
  });

  test('the first commit of a call that the limit refuses is not stored', async () => {
    const [before] = await store.get([toLimitRef('default')]);
    const state = toLimitState(before);
    const windows = state.windows.map((window) => ({ ...window, count: 500 }));
    await store.commit([{ ref: toLimitRef('default'), data: { ...state, windows } }]);
    const session_id = 'refused';
    expect(await prompt({ session_id })).toHaveProperty('error.data.reason', 'rate_limited');
    const [session] = await store.get([conversationRef('default', session_id)]);
    expect(session?.version).toBeNull();
  });
});
