// Keys from configuration: a document read once at start. Rotation means a restart; in the cloud secret-manager.ts is used.
import { type KeyDefaults, parseKeyDocument } from './key-document.ts';
import { createKeyIndex } from './key-index.ts';
import type { Keys } from './keys.ts';

/** `document` as in key-document.ts. Throws KeyDocumentError when it is not one, so that a mistake is seen at start. */
export function createEnvKeys(document: string, defaults: KeyDefaults = {}): Keys {
  const index = createKeyIndex(parseKeyDocument(document, defaults));
  return {
    find: (digest) => index.find(digest),
    async ping() {},
  };
}
