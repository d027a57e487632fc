// A document of every declared type keeps the fields of a newer version, and a document in a newer format is not
// changed, while two versions of the gateway share the store. Run for each adapter.
import { describe, expect, it } from 'vitest';
import { RpcError } from '../../../shared/errors.ts';
import { NewerFormat } from '../../../shared/store/define-document.ts';
import { DOCUMENT_EXAMPLES, withNewerFields } from '../../support/fixtures/database/document-examples.ts';
import { DOCUMENT_TYPES } from '../../support/fixtures/database/document-types.ts';
import { freshRef, put, read, type StoreFixture } from '../../support/fixtures/database/store.ts';

/** Run by `storeCases`. */
export function storeDocumentCases({ store }: StoreFixture): void {
  describe.each(DOCUMENT_TYPES.map((type) => [type.definition.collection, type] as const))('%s', (collection, type) => {
    const example = DOCUMENT_EXAMPLES[collection] ?? {};
    const stored = async (data: object) => {
      const ref = freshRef(collection);
      await put(store(), ref, data);
      return read(store(), ref);
    };

    it(`a document of ${collection} keeps fields of a newer version at every depth`, async () => {
      const newer = Object(withNewerFields(example));
      expect(type.read(await stored(newer))).toEqual(newer);
      expect(type.read(await stored(example))).toEqual(example);
    });

    it(`a document of ${collection} in a newer format is answered 503`, async () => {
      const { format = 1 } = type.definition;
      const snapshot = await stored({ ...example, format: format + 1 });
      expect(() => type.read(snapshot)).toThrow(NewerFormat);
      expect(() => type.read(snapshot)).toThrow(expect.objectContaining({ reason: 'unavailable', httpStatus: 503 }));
      expect(type.read(await stored({ ...example, format }))).toEqual({ ...example, format });
    });

    it(`a document of ${collection} that lacks a field is not read`, async () => {
      const [name = ''] = Object.entries(example).find(([, value]) => value !== null) ?? [];
      const snapshot = await stored({ ...example, [name]: { not: 'this' } });
      const isRefused = (error: unknown): boolean =>
        error instanceof RpcError && error.reason === 'internal' && String(error.cause).includes(`: ${name} (`);
      expect(() => type.read(snapshot)).toThrow(expect.toSatisfy(isRefused));
    });
  });
}
