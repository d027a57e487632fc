// The cases of owner.erase pass on the embedded store; test/emulator/owners.test.ts runs them on Firestore.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect, it } from 'vitest';
import { OWNED_TYPES } from '../../../shared/owners/owned-types.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded/embedded.ts';
import { ownerCases } from '../../cases/owner.cases.ts';
import { DOCUMENT_TYPES } from '../../support/fixtures/database/document-types.ts';

ownerCases('the embedded store', async () => {
  const path = join(mkdtempSync(join(tmpdir(), 'gateway-owner-')), 'gateway.sqlite');
  return {
    openStore: (clock) => createEmbeddedStore({ path, clock }),
    async rows() {
      const database = new DatabaseSync(path, { readOnly: true });
      try {
        const rows = database.prepare('SELECT collection, id, data FROM documents').all();
        return new Map(rows.map(({ collection, id, data }) => [`${collection}/${id}`, String(data)]));
      } finally {
        database.close();
      }
    },
  };
});

it('every declared type that has an owner is erased and exported', () => {
  const names = (types: readonly { readonly definition: { readonly collection: string } }[]) =>
    types.map(({ definition }) => definition.collection).sort();
  const owned = DOCUMENT_TYPES.filter(({ definition }) => typeof definition.owned === 'object');
  expect(names(OWNED_TYPES)).toEqual(names(owned));
});
