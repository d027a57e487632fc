// The cases of owner.export pass on the embedded store; test/emulator/owners.test.ts runs them on Firestore.
import { exportCases } from '../../cases/export.cases.ts';
import { createFixture } from '../../support/fixtures/turns/conversations.ts';

exportCases('the embedded store', () => createFixture());
