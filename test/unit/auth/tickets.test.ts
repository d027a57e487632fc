// A ticket opens one WebSocket within 30 s, also if the clock of the instance that issued it was wrong.
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Caller } from '../../../shared/auth/keys/keys.ts';
import { issueTicket, redeemTicket } from '../../../shared/auth/tickets.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded/embedded.ts';
import type { Store } from '../../../shared/store/store.ts';
import { createTestClock, type TestClock } from '../../support/fixtures/limiter/rate-limit.ts';

const TICKET_MS = 30_000;
const caller: Caller = { keyId: 'default', scopes: new Set(), limits: [], digest: new Uint8Array(32).fill(7) };

let clock: TestClock;
let store: Store;
beforeEach(() => {
  clock = createTestClock();
  store = createEmbeddedStore({ path: ':memory:', clock });
});
afterEach(() => store.close());

it('a ticket lasts 30 s, and is used once', async () => {
  const first = await issueTicket({ store, clock }, caller);
  clock.advance(TICKET_MS - 1);
  expect(new Uint8Array(await redeemTicket({ store, clock }, first.ticket))).toEqual(caller.digest);
  await expect(redeemTicket({ store, clock }, first.ticket)).rejects.toMatchObject({ reason: 'unauthorized' });
  const second = await issueTicket({ store, clock }, caller);
  clock.advance(TICKET_MS);
  await expect(redeemTicket({ store, clock }, second.ticket)).rejects.toMatchObject({ reason: 'unauthorized' });
});

it('a ticket of a clock that was 8 hours ahead is not valid for 8 hours', async () => {
  clock.step(8 * 3_600_000);
  const { ticket } = await issueTicket({ store, clock }, caller);
  clock.step(-8 * 3_600_000);
  await expect(redeemTicket({ store, clock }, ticket)).rejects.toMatchObject({ reason: 'unauthorized' });
});
