// The cases of conversations pass on the real Firestore emulator, with several gateways in this process on one
// database.
import { randomBytes } from 'node:crypto';
import { inject } from 'vitest';
import { createFirestoreStore } from '../../../shared/store/firestore/firestore.ts';
import { branchCases } from '../../cases/conversations/branch.cases.ts';
import { conversationCases } from '../../cases/conversations/conversation.cases.ts';
import { forkCases } from '../../cases/conversations/fork.cases.ts';
import { retentionCases } from '../../cases/conversations/retention.cases.ts';
import { sessionCases } from '../../cases/conversations/session.cases.ts';
import { createFixture } from '../../support/fixtures/turns/conversations.ts';
import { describeWith } from '../../support/requirements.ts';

describeWith('emulators', 'Firestore', () => {
  const projectId = `turns-${randomBytes(4).toString('hex')}`;
  const openFixture = (project: string) =>
    createFixture({
      openStore: (clock) => createFirestoreStore({ projectId: project, emulatorHost: inject('firestoreHost'), clock }),
    });
  conversationCases('the Firestore emulator', () => openFixture(projectId));
  sessionCases('the Firestore emulator', () => openFixture(projectId));
  branchCases('the Firestore emulator', () => openFixture(projectId));
  forkCases('the Firestore emulator', () => openFixture(projectId));
  // A database for each case, because the sweep is of the whole database.
  retentionCases('the Firestore emulator', () => openFixture(`retention-${randomBytes(4).toString('hex')}`));
});
