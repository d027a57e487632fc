// Stores of released versions are opened on the real emulator.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { inject } from 'vitest';
import { createFirestoreStore } from '../../../shared/store/firestore/firestore.ts';
import { releasedStoreCases } from '../../cases/store/released-store.cases.ts';
import { EmulatorDocuments, writeEmulator } from '../../support/fixtures/database/emulator-documents.ts';
import { describeWith } from '../../support/requirements.ts';

describeWith('emulators', 'Firestore', () => {
  releasedStoreCases({
    kind: 'firestore',
    async open(directory, clock) {
      const emulatorHost = inject('firestoreHost');
      const projectId = `demo-${randomBytes(6).toString('hex')}`;
      const documents = EmulatorDocuments.parse(JSON.parse(readFileSync(join(directory, 'documents.json'), 'utf8')));
      await writeEmulator(emulatorHost, projectId, documents);
      const refs = documents.map(({ path }) => {
        const [collection = '', id = ''] = path.split('/');
        return { collection, id };
      });
      return { store: createFirestoreStore({ projectId, emulatorHost, clock }), refs };
    },
  });
});
