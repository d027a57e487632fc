// The gateway encodes and decodes the messages of google.firestore.v1 as protobufjs does with the definitions that
// Google's SDK contains.
import { createRequire } from 'node:module';
import { describe, expect, it } from 'vitest';
import { decodeBegin, decodeCommit, decodeDocument } from '../../../shared/store/firestore/decode.ts';
import {
  encodeBegin,
  encodeCommit,
  encodeGet,
  encodeQuery,
  encodeRollback,
} from '../../../shared/store/firestore/encode.ts';
import type { Data, Value } from '../../../shared/store/store.ts';

const require = createRequire(createRequire(import.meta.url).resolve('@google-cloud/firestore'));
const protobuf: typeof import('protobufjs') = require('protobufjs');
const root = protobuf.Root.fromJSON(require('@google-cloud/firestore-api/build/protos/protos.json'));

const database = 'projects/p/databases/(default)';
const name = `${database}/documents/cases/a`;
const token = new Uint8Array([0, 1, 255]);
const time = { seconds: 1_900_000_000, nanos: 123_456_789 };
const wireTime = { seconds: '1900000000', nanos: 123_456_789 };

const DATA: Data = {
  text: 'ascii',
  unicode: 'ä€😀'.repeat(50),
  long: 'x'.repeat(20_000),
  empty: '',
  // A mark of the byte order is text within a message.
  marked: '\uFEFFtext',
  zero: 0,
  small: 4_294_967_295,
  large: Number.MAX_SAFE_INTEGER,
  negative: -1,
  smallest: Number.MIN_SAFE_INTEGER,
  fraction: -0.1,
  beyond: 2 ** 60,
  yes: true,
  no: false,
  nothing: null,
  list: ['a', 1, null, { in: ['b'] }, {}],
  none: [],
  map: { deep: { deeper: { text: 't', list: [{ n: 1 }] } }, 'a.b `c`': 1 },
  '': 'no name',
};

/** What protobufjs reads in the encoded request. */
function read(type: string, bytes: Uint8Array): unknown {
  const message = root.lookupType(`google.firestore.v1.${type}`);
  return message.toObject(message.decode(bytes), { longs: String, enums: String, oneofs: true, bytes: Array });
}

function written(type: string, object: object): Uint8Array {
  const message = root.lookupType(`google.firestore.v1.${type}`);
  return message.encode(message.fromObject(object)).finish();
}

/** The message Value of a value, as protobufjs writes it. */
function toWire(value: Value): object {
  if (value === null) return { nullValue: 'NULL_VALUE' };
  if (typeof value === 'string') return { stringValue: value };
  if (typeof value === 'boolean') return { booleanValue: value };
  if (typeof value === 'number') {
    return Number.isSafeInteger(value) ? { integerValue: String(value) } : { doubleValue: value };
  }
  if (Array.isArray(value)) return { arrayValue: { values: value.map(toWire) } };
  return { mapValue: { fields: toWireFields(value) } };
}

function toWireFields(data: object): Record<string, object> {
  return Object.fromEntries(Object.entries(data).map(([field, value]) => [field, toWire(value)]));
}

/** `bytes` mean the same as the message that protobufjs writes from `object`. */
function expectSame(type: string, bytes: Uint8Array, object: object): void {
  expect(read(type, bytes)).toEqual(read(type, written(type, object)));
}

describe('requests to Firestore are read by protobufjs as they were meant', () => {
  it('protobufjs decodes a Commit with every kind of value, masks, transforms and preconditions as it was encoded', () => {
    const bytes = encodeCommit({
      database,
      transaction: token,
      writes: [
        { name, fields: { data: DATA, expireAt: time }, precondition: { exists: false } },
        { name, fields: { data: { n: 1 } }, paths: ['expire_at', 'data.n'], precondition: { updateTime: time } },
        { name, fields: {}, paths: [], transforms: [{ fieldPath: 'data.queue', append: ['me'] }] },
        { name, fields: {}, paths: [], transforms: [{ fieldPath: 'data.queue', remove: ['me'] }] },
        { name, fields: undefined, precondition: { exists: true } },
      ],
    });
    expectSame('CommitRequest', bytes, {
      database,
      transaction: [...token],
      writes: [
        {
          update: { name, fields: { data: toWire(DATA), expire_at: { timestampValue: wireTime } } },
          currentDocument: { exists: false },
        },
        {
          update: { name, fields: { data: toWire({ n: 1 }) } },
          updateMask: { fieldPaths: ['expire_at', 'data.n'] },
          currentDocument: { updateTime: wireTime },
        },
        {
          update: { name },
          updateMask: {},
          updateTransforms: [{ fieldPath: 'data.queue', appendMissingElements: { values: [toWire('me')] } }],
        },
        {
          update: { name },
          updateMask: {},
          updateTransforms: [{ fieldPath: 'data.queue', removeAllFromArray: { values: [toWire('me')] } }],
        },
        { delete: name, currentDocument: { exists: true } },
      ],
    });
  });

  it('an empty mask is sent, because a write without a mask replaces the document', () => {
    const bytes = encodeCommit({ database, transaction: undefined, writes: [{ name, fields: {}, paths: [] }] });
    expect(read('CommitRequest', bytes)).toMatchObject({ writes: [{ updateMask: {} }] });
    const whole = encodeCommit({ database, transaction: undefined, writes: [{ name, fields: {} }] });
    expect(read('CommitRequest', whole)).not.toMatchObject({ writes: [{ updateMask: {} }] });
  });

  it('protobufjs decodes BatchGetDocuments, BeginTransaction and Rollback as they were encoded', () => {
    const get = encodeGet({ database, names: [name, `${name}2`], transaction: token });
    expect(read('BatchGetDocumentsRequest', get)).toMatchObject({
      database,
      documents: [name, `${name}2`],
      transaction: [...token],
    });
    expect(read('BeginTransactionRequest', encodeBegin({ database, retryOf: token }))).toMatchObject({
      database,
      options: { mode: 'readWrite', readWrite: { retryTransaction: [...token] } },
    });
    expect(read('BeginTransactionRequest', encodeBegin({ database, retryOf: undefined }))).toMatchObject({
      options: { mode: 'readWrite' },
    });
    expect(read('RollbackRequest', encodeRollback({ database, transaction: token }))).toEqual({
      database,
      transaction: [...token],
    });
  });

  it('protobufjs decodes a RunQuery with filters, order, position and limit as it was encoded', () => {
    const bytes = encodeQuery({
      parent: `${database}/documents`,
      query: {
        collection: 'cases',
        filters: [
          { path: 'data.owner', op: 'equal', value: 'o' },
          { path: 'data.tags', op: 'array-contains', value: 't' },
        ],
        orderBy: 'data.n',
        direction: 'desc',
        after: { value: 5, name },
        limit: 20,
      },
    });
    const filter = (fieldPath: string, op: string, value: string) => ({
      fieldFilter: { field: { fieldPath }, op, value: toWire(value) },
    });
    expectSame('RunQueryRequest', bytes, {
      parent: `${database}/documents`,
      structuredQuery: {
        from: [{ collectionId: 'cases' }],
        where: {
          compositeFilter: {
            op: 'AND',
            filters: [filter('data.owner', 'EQUAL', 'o'), filter('data.tags', 'ARRAY_CONTAINS', 't')],
          },
        },
        orderBy: ['data.n', '__name__'].map((fieldPath) => ({ field: { fieldPath }, direction: 'DESCENDING' })),
        startAt: { values: [toWire(5), { referenceValue: name }] },
        limit: { value: 20 },
      },
    });
  });
});

describe('responses that protobufjs wrote are decoded', () => {
  it('documents with every kind of value are decoded, in both responses that have one', () => {
    const document = {
      name,
      fields: { data: toWire(DATA), expire_at: { timestampValue: wireTime }, other: toWire('ignored') },
      createTime: wireTime,
      updateTime: wireTime,
    };
    const expected = { name, data: DATA, expireAt: time, updateTime: time };
    const found = written('BatchGetDocumentsResponse', { found: document, readTime: wireTime, transaction: token });
    expect(decodeDocument(found)).toEqual(expected);
    expect(decodeDocument(written('RunQueryResponse', { document, skippedResults: 3 }))).toEqual(expected);
  });

  it('absent documents, and values of types that the gateway does not write, are decoded', () => {
    expect(decodeDocument(written('BatchGetDocumentsResponse', { missing: name, readTime: wireTime }))).toBeUndefined();
    const fields = {
      data: {
        mapValue: { fields: { bytes: { bytesValue: token }, at: { timestampValue: wireTime }, n: toWire(1) } },
      },
      expire_at: toWire('no time'),
    };
    expect(decodeDocument(written('RunQueryResponse', { document: { name, fields } }))).toEqual({
      name,
      data: { bytes: null, at: null, n: 1 },
      expireAt: undefined,
      updateTime: undefined,
    });
  });

  it('a field named __proto__ changes no prototype', () => {
    const map = root.lookupType('google.firestore.v1.Document');
    const fields = {
      data: { mapValue: { fields: JSON.parse('{"__proto__":{"mapValue":{}},"n":{"integerValue":1}}') } },
    };
    const document = written('RunQueryResponse', { document: map.fromObject({ name, fields }) });
    const { data } = decodeDocument(document) ?? {};
    expect(Object.getPrototypeOf(data)).toBe(Object.prototype);
  });

  it('the time of a write is its own, else that of its commit', () => {
    const later = { seconds: '1900000001', nanos: 0 };
    const bytes = written('CommitResponse', { writeResults: [{ updateTime: wireTime }, {}], commitTime: later });
    expect(decodeCommit(bytes)).toEqual([time, { seconds: 1_900_000_001, nanos: 0 }]);
    expect([...decodeBegin(written('BeginTransactionResponse', { transaction: token }))]).toEqual([...token]);
  });

  it('a message that ends too early is an error', () => {
    const bytes = written('RunQueryResponse', { document: { name, fields: { data: toWire(DATA) } } });
    expect(() => decodeDocument(bytes.subarray(0, bytes.length - 10))).toThrow();
  });
});
