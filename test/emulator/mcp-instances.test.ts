// MCP connections are shared by two instances over Firestore, on the real emulator.
import { randomBytes } from 'node:crypto';
import { inject } from 'vitest';
import { createFirestoreStore } from '../../shared/store/firestore/firestore.ts';
import { mcpInstanceCases } from '../cases/mcp-instances.cases.ts';
import { describeWith } from '../support/requirements.ts';

describeWith('emulators', 'Firestore', () => {
  mcpInstanceCases('Firestore', (clock) =>
    createFirestoreStore({
      projectId: `demo-${randomBytes(6).toString('hex')}`,
      emulatorHost: inject('firestoreHost'),
      clock,
    }),
  );
});
