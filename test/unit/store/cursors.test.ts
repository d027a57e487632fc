// A cursor that a caller has made up, with an id that no document can have, is refused. Firestore would fail with an
// error of its own, and the embedded store with another one.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { conversationList } from '../../../shared/methods/conversation.list.ts';
import { ownerExport } from '../../../shared/methods/owner.export.ts';
import { encodeCursor } from '../../../shared/store/cursor.ts';
import { listDeployments, listEvents } from '../../../shared/webhooks/feed/list.ts';
import { createFixture, type Fixture, failure, type Instance } from '../../support/fixtures/turns/conversations.ts';

let fixture: Fixture;
let a: Instance;
beforeAll(async () => {
  fixture = await createFixture();
  a = await fixture.instance();
});
afterAll(() => fixture.close());

const exportCursor = (id: string): string =>
  Buffer.from(JSON.stringify(['turns', '2026', id, ['', 0], 1])).toString('base64url');

describe.each(['', '..', 'a/b', 'a/b/c', 'ä', 'x'.repeat(129)])('a cursor with the id %j', (id) => {
  it.each<[string, () => Promise<unknown>]>([
    ['conversation.list', () => a.call(conversationList, { cursor: encodeCursor(['2026', id]) })],
    ['owner.export', () => a.call(ownerExport, { cursor: exportCursor(id) })],
    [
      'events.list',
      () => listEvents(fixture.store, { after: encodeCursor(['newest', 1, id]), order: 'newest', limit: 1 }),
    ],
    ['deployment.list', () => listDeployments(fixture.store, { after: encodeCursor(['service', 's', id]), limit: 1 })],
  ])('a cursor with an id that no document can have is refused by %s', async (_, call) => {
    expect(await failure(call())).toMatchObject({ reason: 'invalid_params' });
  });
});
