// The cases of retention pass on the embedded store; test/emulator/turns/turns.test.ts runs them on Firestore.
import { expect, it } from 'vitest';
import { createRetention } from '../../../../shared/conversations/records/retention.ts';
import { newConversation } from '../../../../shared/conversations/turns/lease.ts';
import { retentionCases } from '../../../cases/conversations/retention.cases.ts';
import { createFixture } from '../../../support/fixtures/turns/conversations.ts';

retentionCases('the embedded store', () => createFixture());

it('a session whose turn still runs has not expired, one whose turn was abandoned has', () => {
  const nowMs = Date.UTC(2026, 10, 27);
  const retention = createRetention({ now: () => nowMs }, 1);
  const lease = {
    ...{ turn_id: 't', epoch: 1, model: 'm', started_at: 'd', stop: null, idempotency_id: null },
    lease_until_ms: nowMs + 1_000,
  };
  const session = { ...newConversation('k', 's', 'c', 'm', '2026-11-25T00:00:00.000Z'), turn: lease };
  expect(retention.isExpired(session)).toBe(false);
  expect(retention.isExpired({ ...session, turn: { ...lease, lease_until_ms: nowMs - 1 } })).toBe(true);
});
