// The conversation cases on the real Firestore emulator: several gateways in this process, one database.
import { randomBytes } from 'node:crypto';
import { inject } from 'vitest';
import { createFirestoreStore } from '../../shared/store/firestore/firestore.ts';
import { conversationCases } from '../cases/conversation.cases.ts';
import { sessionCases } from '../cases/session.cases.ts';
import { createFixture } from '../support/fixtures/conversations.ts';
import { describeWith } from '../support/requirements.ts';

describeWith('emulators', 'Firestore', () => {
  const projectId = `turns-${randomBytes(4).toString('hex')}`;
  const openFixture = () =>
    createFixture({
      openStore: (clock) => createFirestoreStore({ projectId, emulatorHost: inject('firestoreHost'), clock }),
    });
  conversationCases('the Firestore emulator', openFixture);
  sessionCases('the Firestore emulator', openFixture);
});
