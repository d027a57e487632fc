// Encodes requests of google.firestore.v1 (https://github.com/googleapis/googleapis/tree/master/google/firestore/v1).
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import type { Data, Value } from '../store.ts';
import type { Transaction, WireFields, WireQuery, WireTimestamp, WireTransform, WireWrite } from './wire.ts';

const { Varint: VARINT, Bit64: BIT64, LengthDelimited: LENGTH } = WireType;
const UINT32_MAX = 0xffff_ffff;
/** Values of the enums of StructuredQuery. */
const OPERATORS = { equal: 5, 'array-contains': 7 } as const;
const DIRECTIONS = { asc: 1, desc: 2 } as const;
const COMPOSITE_AND = 1;

export function encodeGet(request: {
  readonly database: string;
  readonly names: readonly string[];
  readonly transaction: Transaction | undefined;
}): Uint8Array {
  return encode(request.database, (writer) => {
    for (const name of request.names) text(writer, 2, name);
    token(writer, 4, request.transaction);
  });
}

export function encodeCommit(request: {
  readonly database: string;
  readonly writes: readonly WireWrite[];
  readonly transaction: Transaction | undefined;
}): Uint8Array {
  return encode(request.database, (writer) => {
    for (const write of request.writes) message(writer, 2, () => writeUpdate(writer, write));
    token(writer, 3, request.transaction);
  });
}

export function encodeBegin(request: {
  readonly database: string;
  readonly retryOf: Transaction | undefined;
}): Uint8Array {
  return encode(request.database, (writer) => {
    message(writer, 2, () => message(writer, 3, () => token(writer, 1, request.retryOf)));
  });
}

export function encodeRollback(request: { readonly database: string; readonly transaction: Transaction }): Uint8Array {
  return encode(request.database, (writer) => token(writer, 2, request.transaction));
}

export function encodeQuery(request: { readonly parent: string; readonly query: WireQuery }): Uint8Array {
  return encode(request.parent, (writer) => message(writer, 2, () => writeQuery(writer, request.query)));
}

/** A request. Field 1 of each is the name of the database or of the parent. */
function encode(name: string, write: (writer: BinaryWriter) => void): Uint8Array {
  const writer = new BinaryWriter();
  text(writer, 1, name);
  write(writer);
  return writer.finish();
}

function writeUpdate(writer: BinaryWriter, { name, fields, paths, transforms = [], precondition }: WireWrite): void {
  if (fields === undefined) text(writer, 2, name);
  else {
    message(writer, 1, () => {
      text(writer, 1, name);
      writeEnvelope(writer, fields);
    });
  }
  if (paths !== undefined) {
    message(writer, 3, () => {
      for (const path of paths) text(writer, 1, path);
    });
  }
  for (const transform of transforms) message(writer, 7, () => writeTransform(writer, transform));
  if (precondition !== undefined) {
    message(writer, 4, () => {
      if ('exists' in precondition) writer.tag(1, VARINT).bool(precondition.exists);
      else timestamp(writer, 2, precondition.updateTime);
    });
  }
}

function writeEnvelope(writer: BinaryWriter, { data, expireAt }: WireFields): void {
  if (data !== undefined) mapEntry(writer, 2, 'data', () => writeValue(writer, data));
  if (expireAt !== undefined) mapEntry(writer, 2, 'expire_at', () => timestamp(writer, 10, expireAt));
}

function writeTransform(writer: BinaryWriter, { fieldPath, append, remove }: WireTransform): void {
  text(writer, 1, fieldPath);
  if (append !== undefined) message(writer, 6, () => writeItems(writer, append));
  if (remove !== undefined) message(writer, 7, () => writeItems(writer, remove));
}

function writeQuery(writer: BinaryWriter, query: WireQuery): void {
  const { collection, filters, orderBy, direction, after, limit } = query;
  message(writer, 2, () => text(writer, 2, collection));
  if (filters.length > 0) {
    message(writer, 3, () =>
      message(writer, 1, () => {
        writer.tag(1, VARINT).int32(COMPOSITE_AND);
        for (const { path, op, value } of filters) {
          message(writer, 2, () =>
            message(writer, 2, () => {
              message(writer, 1, () => text(writer, 2, path));
              writer.tag(2, VARINT).int32(OPERATORS[op]);
              message(writer, 3, () => writeValue(writer, value));
            }),
          );
        }
      }),
    );
  }
  for (const path of [orderBy, '__name__']) {
    message(writer, 4, () => {
      message(writer, 1, () => text(writer, 2, path));
      writer.tag(2, VARINT).int32(DIRECTIONS[direction]);
    });
  }
  if (after !== undefined) {
    // `before` (field 2) is false: the page starts after this position.
    message(writer, 7, () => {
      message(writer, 1, () => writeValue(writer, after.value));
      message(writer, 1, () => text(writer, 5, after.name));
    });
  }
  message(writer, 5, () => writer.tag(1, VARINT).int32(limit));
}

/** The content of a message Value. */
function writeValue(writer: BinaryWriter, value: Value): void {
  switch (typeof value) {
    case 'string':
      text(writer, 17, value);
      return;
    case 'number':
      if (!Number.isSafeInteger(value)) writer.tag(3, BIT64).double(value);
      else if (value >= 0 && value <= UINT32_MAX) writer.tag(2, VARINT).uint32(value);
      else writer.tag(2, VARINT).int64(value);
      return;
    case 'boolean':
      writer.tag(1, VARINT).bool(value);
      return;
    default:
      if (value === null) writer.tag(11, VARINT).int32(0);
      else if (isArray(value)) message(writer, 9, () => writeItems(writer, value));
      else message(writer, 6, () => writeMap(writer, value));
  }
}

/** The content of a message ArrayValue. */
function writeItems(writer: BinaryWriter, items: readonly Value[]): void {
  for (const item of items) message(writer, 1, () => writeValue(writer, item));
}

/** The content of a message MapValue. */
function writeMap(writer: BinaryWriter, map: Data): void {
  for (const [name, value] of Object.entries(map)) mapEntry(writer, 1, name, () => writeValue(writer, value));
}

/** One entry of the `map<string, Value>` in `field`. */
function mapEntry(writer: BinaryWriter, field: number, name: string, write: () => void): void {
  message(writer, field, () => {
    text(writer, 1, name);
    message(writer, 2, write);
  });
}

function timestamp(writer: BinaryWriter, field: number, { seconds, nanos }: WireTimestamp): void {
  message(writer, field, () => writer.tag(1, VARINT).int64(seconds).tag(2, VARINT).int32(nanos));
}

function token(writer: BinaryWriter, field: number, transaction: Transaction | undefined): void {
  if (transaction !== undefined) writer.tag(field, LENGTH).bytes(transaction);
}

function text(writer: BinaryWriter, field: number, value: string): void {
  writer.tag(field, LENGTH).string(value);
}

function message(writer: BinaryWriter, field: number, write: () => void): void {
  writer.tag(field, LENGTH).fork();
  write();
  writer.join();
}

// Array.isArray does not exclude a readonly array from the rest of the union.
function isArray(value: Value): value is readonly Value[] {
  return Array.isArray(value);
}
