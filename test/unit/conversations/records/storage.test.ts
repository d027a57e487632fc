// The storage limit of an owner holds over all instances, deletion frees storage, and an existing answer is not
// affected.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Conversations, conversationRef } from '../../../../shared/conversations/records/documents.ts';
import { StorageTotals, storageRef } from '../../../../shared/conversations/records/storage.ts';
import { conversationDelete } from '../../../../shared/methods/conversation.delete.ts';
import {
  createFixture,
  type Fixture,
  failure,
  type Instance,
  isDelta,
} from '../../../support/fixtures/turns/conversations.ts';

const BLOCK = 'x'.repeat(300_000);

let fixture: Fixture;
let a: Instance;
let b: Instance;
beforeEach(async () => {
  fixture = await createFixture({ env: { GATEWAY_STORAGE_MB: '1' } });
  fixture.provider.behave(() => ({ text: 'answer' }));
  [a, b] = [await fixture.instance(), await fixture.instance()];
});
afterEach(() => fixture.close());

const onRecord = async (): Promise<number> => {
  for (const { services } of [a, b]) await services.conversations.ledger.flush();
  const [snapshot] = await fixture.store.get([storageRef('default')]);
  return StorageTotals.read(snapshot)?.bytes ?? 0;
};
const refused = async (on: Instance, session_id: string) =>
  expect(await failure(on.prompt(BLOCK, { session_id }))).toMatchObject({
    reason: 'storage_full',
    retryable: false,
    message: expect.stringContaining('conversation.delete'),
    data: { limit_bytes: 2 ** 20, stored_bytes: expect.any(Number) },
  });

describe('what an owner keeps', () => {
  it('what an owner keeps is bounded over all instances, and freed by delete on another one', async () => {
    for (const [n, on] of [a, b, a].entries()) {
      await on.prompt(BLOCK, { session_id: `s${n}` });
      await onRecord();
    }
    expect(await onRecord()).toBe(3 * (300_000 + 'answer'.length + 400));
    await refused(a, 's3');
    await refused(await fixture.instance(), 's3');
    expect(await b.prompt('mine is untouched', { session_id: 's3' }, { owner: 'another' })).toBeDefined();
    await b.call(conversationDelete, { session_id: 's1' });
    await onRecord();
    expect(await a.prompt(BLOCK, { session_id: 's3' })).toBeDefined();
    for (const n of [0, 2, 3]) await a.call(conversationDelete, { session_id: `s${n}` });
    expect(await onRecord()).toBe(0);
  });

  it('what an owner keeps is passed by no more than the turns in flight', async () => {
    await a.prompt('warm up', { session_id: 'w' });
    await Promise.all(Array.from({ length: 5 }, (_, n) => a.prompt(BLOCK, { session_id: `p${n}` })));
    await onRecord();
    for (const [n, on] of [a, await fixture.instance(), a].entries()) await refused(on, `q${n}`);
  });

  it('a paid answer is returned to a caller that repeats the prompt also when the storage is full', async () => {
    const params = { session_id: 's', idempotency_key: 'k' };
    const paid = await a.prompt(BLOCK, params);
    for (const n of [1, 2]) await a.prompt(BLOCK, { session_id: `s${n}` });
    await onRecord();
    await refused(b, 's');
    expect(await b.prompt(BLOCK, params)).toEqual(paid);
  });

  it('what an owner keeps counts a turn whose instance crashed once another has ended it', async () => {
    fixture.provider.behave(() => ({ chunks: ['one'], hang: 'stream' }));
    const running = a.stream('prompt', { session_id: 's' });
    await running.until(isDelta);
    a.line.state = 'down';
    fixture.clock.advance(31_000);
    fixture.provider.behave(() => ({ text: 'answer' }));
    await b.prompt('next', { session_id: 's' });
    const bytes = await (async () => {
      await b.services.conversations.ledger.flush();
      const [snapshot] = await fixture.store.get([storageRef('default')]);
      return StorageTotals.read(snapshot)?.bytes;
    })();
    const [snapshot] = await fixture.store.get([conversationRef('default', 's')]);
    expect(bytes).toBe(Conversations.read(snapshot)?.stored_bytes);
    expect(bytes).toBeGreaterThanOrEqual('promptnextanswer'.length + 600);
    a.line.state = 'up';
    await failure(running.answer);
  });

  it('what an owner keeps counts what an older version stored once it is written again', async () => {
    await a.prompt(BLOCK, { session_id: 's' });
    await onRecord();
    const ref = conversationRef('default', 's');
    const [snapshot] = await fixture.store.get([ref]);
    const document = Conversations.read(snapshot);
    if (document === undefined) throw new Error('not stored');
    const { stored_bytes, counted_bytes: _, ...older } = document;
    await fixture.store.commit([
      { ref, data: older },
      { ref: storageRef('default'), delete: true },
    ]);
    const fresh = await fixture.instance();
    await fresh.prompt('more', { session_id: 's' });
    await fresh.services.conversations.ledger.flush();
    expect(await onRecord()).toBe((stored_bytes ?? 0) + 'moreanswer'.length + 400);
  });
});
