// Keys from the configuration, read once at start. A rotation needs a restart; in the cloud secret-manager.ts is used.
import { type KeyDefaults, parseKeyDocument } from '../../config/values/key-document.ts';
import { createKeyIndex } from './key-index.ts';
import type { Keys } from './keys.ts';

/**
 * `documents`: see key-document.ts; of two entries with the same key the first one is used. Throws KeyDocumentError
 * when a document is malformed, so that the process fails at start.
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
