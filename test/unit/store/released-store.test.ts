// Stores of released versions are opened with the embedded adapter.
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { createEmbeddedStore } from '../../../shared/store/embedded/embedded.ts';
import { releasedStoreCases } from '../../cases/store/released-store.cases.ts';

releasedStoreCases({
  kind: 'embedded',
  async open(directory, clock) {
    const path = join(directory, 'gateway.sqlite');
    const database = new DatabaseSync(path, { readOnly: true });
    const rows = database.prepare('SELECT collection, id FROM documents').all();
    database.close();
    const refs = rows.map(({ collection, id }) => ({ collection: String(collection), id: String(id) }));
    return { store: createEmbeddedStore({ path, clock }), refs };
  },
});
