// The cases of conversations pass on the embedded store; test/emulator/turns/turns.test.ts runs them on Firestore.
import { branchCases } from '../../cases/conversations/branch.cases.ts';
import { conversationCases } from '../../cases/conversations/conversation.cases.ts';
import { forkCases } from '../../cases/conversations/fork.cases.ts';
import { sessionCases } from '../../cases/conversations/session.cases.ts';
import { createFixture } from '../../support/fixtures/turns/conversations.ts';

conversationCases('the embedded store', () => createFixture());
sessionCases('the embedded store', () => createFixture());
branchCases('the embedded store', () => createFixture());
forkCases('the embedded store', () => createFixture());
