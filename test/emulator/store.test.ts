// The Firestore store on the real emulator: every case of the port.
import { randomBytes } from 'node:crypto';
import { inject } from 'vitest';
import { createFirestoreStore } from '../../shared/store/firestore/firestore.ts';
import { storeCases } from '../cases/store.cases.ts';
import { describeWith } from '../support/requirements.ts';

describeWith('emulators', 'Firestore', () => {
  storeCases('Firestore store', (clock) =>
    createFirestoreStore({
      projectId: `demo-${randomBytes(6).toString('hex')}`,
      emulatorHost: inject('firestoreHost'),
      clock,
    }),
  );
});
