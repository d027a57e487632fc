// The conversation cases on the embedded store; test/emulator/turns.test.ts runs them on Firestore.
import { branchCases } from '../../cases/branch.cases.ts';
import { conversationCases } from '../../cases/conversation.cases.ts';
import { forkCases } from '../../cases/fork.cases.ts';
import { sessionCases } from '../../cases/session.cases.ts';
import { createFixture } from '../../support/fixtures/conversations.ts';

conversationCases('the embedded store', () => createFixture());
sessionCases('the embedded store', () => createFixture());
branchCases('the embedded store', () => createFixture());
forkCases('the embedded store', () => createFixture());
