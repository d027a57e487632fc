// Keys from configuration: a document read once at start. Rotation means a restart; in the cloud secret-manager.ts is
// used.
import { type KeyDefaults, parseKeyDocument } from '../../config/key-document.ts';
import { createKeyIndex } from './key-index.ts';
import type { Keys } from './keys.ts';

/**
 * `documents` as in key-document.ts; where two hold the same key the first counts. Throws KeyDocumentError when one is
 * malformed, so that a mistake is seen at start.
 */
export function createEnvKeys(
  documents: string | readonly string[],
  defaults: KeyDefaults = {},
  warn?: (message: string) => void,
): Keys {
  const texts = typeof documents === 'string' ? [documents] : documents;
  const index = createKeyIndex(texts.flatMap((text) => parseKeyDocument(text, defaults, warn)));
  return {
    find: (digest) => index.find(digest),
    async ping() {},
  };
}
