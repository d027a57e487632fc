// Encodes requests of google.firestore.v1 (https://github.com/googleapis/googleapis/tree/master/google/firestore/v1).
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { writeBytes, writeMessage, writeText } from '../../wire-format.ts';
import type { Data, Value } from '../store.ts';
import type { Transaction, WireFields, WireQuery, WireTimestamp, WireTransform, WireWrite } from './wire.ts';

const { Varint: VARINT, Bit64: BIT64 } = WireType;
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
  const writer = new BinaryWriter();
  writeText(writer, 1, request.database);
  for (const name of request.names) writeText(writer, 2, name);
  if (request.transaction !== undefined) writeBytes(writer, 4, request.transaction);
  return writer.finish();
}

export function encodeCommit(request: {
  readonly database: string;
  readonly writes: readonly WireWrite[];
  readonly transaction: Transaction | undefined;
}): Uint8Array {
  const writer = new BinaryWriter();
  writeText(writer, 1, request.database);
  for (const write of request.writes) writeMessage(writer, 2, () => writeUpdate(writer, write));
  if (request.transaction !== undefined) writeBytes(writer, 3, request.transaction);
  return writer.finish();
}

export function encodeBegin(request: {
  readonly database: string;
  readonly retryOf: Transaction | undefined;
}): Uint8Array {
  const { database, retryOf } = request;
  const writer = new BinaryWriter();
  writeText(writer, 1, database);
  writeMessage(writer, 2, () =>
    writeMessage(writer, 3, () => {
      if (retryOf !== undefined) writeBytes(writer, 1, retryOf);
    }),
  );
  return writer.finish();
}

export function encodeRollback(request: { readonly database: string; readonly transaction: Transaction }): Uint8Array {
  const writer = new BinaryWriter();
  writeText(writer, 1, request.database);
  writeBytes(writer, 2, request.transaction);
  return writer.finish();
}

export function encodeQuery(request: { readonly parent: string; readonly query: WireQuery }): Uint8Array {
  const writer = new BinaryWriter();
  writeText(writer, 1, request.parent);
  writeMessage(writer, 2, () => writeQuery(writer, request.query));
  return writer.finish();
}

function writeUpdate(writer: BinaryWriter, { name, fields, paths, transforms = [], precondition }: WireWrite): void {
  if (fields === undefined) writeText(writer, 2, name);
  else {
    writeMessage(writer, 1, () => {
      writeText(writer, 1, name);
      writeEnvelope(writer, fields);
    });
  }
  if (paths !== undefined) {
    writeMessage(writer, 3, () => {
      for (const path of paths) writeText(writer, 1, path);
    });
  }
  for (const transform of transforms) writeMessage(writer, 7, () => writeTransform(writer, transform));
  if (precondition !== undefined) {
    writeMessage(writer, 4, () => {
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
  writeText(writer, 1, fieldPath);
  if (append !== undefined) writeMessage(writer, 6, () => writeItems(writer, append));
  if (remove !== undefined) writeMessage(writer, 7, () => writeItems(writer, remove));
}

function writeQuery(writer: BinaryWriter, query: WireQuery): void {
  const { collection, filters, orderBy, direction, after, limit } = query;
  writeMessage(writer, 2, () => writeText(writer, 2, collection));
  if (filters.length > 0) {
    writeMessage(writer, 3, () =>
      writeMessage(writer, 1, () => {
        writer.tag(1, VARINT).int32(COMPOSITE_AND);
        for (const { path, op, value } of filters) {
          writeMessage(writer, 2, () =>
            writeMessage(writer, 2, () => {
              writeMessage(writer, 1, () => writeText(writer, 2, path));
              writer.tag(2, VARINT).int32(OPERATORS[op]);
              writeMessage(writer, 3, () => writeValue(writer, value));
            }),
          );
        }
      }),
    );
  }
  for (const path of [orderBy, '__name__']) {
    writeMessage(writer, 4, () => {
      writeMessage(writer, 1, () => writeText(writer, 2, path));
      writer.tag(2, VARINT).int32(DIRECTIONS[direction]);
    });
  }
  if (after !== undefined) {
    // `before` (field 2) is false: the page starts after this position.
    writeMessage(writer, 7, () => {
      writeMessage(writer, 1, () => writeValue(writer, after.value));
      writeMessage(writer, 1, () => writeText(writer, 5, after.name));
    });
  }
  writeMessage(writer, 5, () => writer.tag(1, VARINT).int32(limit));
}

/** The content of a message Value. */
function writeValue(writer: BinaryWriter, value: Value): void {
  switch (typeof value) {
    case 'string':
      writeText(writer, 17, value);
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
      else if (isArray(value)) writeMessage(writer, 9, () => writeItems(writer, value));
      else writeMessage(writer, 6, () => writeMap(writer, value));
  }
}

/** The content of a message ArrayValue. */
function writeItems(writer: BinaryWriter, items: readonly Value[]): void {
  for (const item of items) writeMessage(writer, 1, () => writeValue(writer, item));
}

/** The content of a message MapValue. */
function writeMap(writer: BinaryWriter, map: Data): void {
  for (const [name, value] of Object.entries(map)) mapEntry(writer, 1, name, () => writeValue(writer, value));
}

/** One entry of the `map<string, Value>` in `field`. */
function mapEntry(writer: BinaryWriter, field: number, name: string, write: () => void): void {
  writeMessage(writer, field, () => {
    writeText(writer, 1, name);
    writeMessage(writer, 2, write);
  });
}

function timestamp(writer: BinaryWriter, field: number, { seconds, nanos }: WireTimestamp): void {
  writeMessage(writer, field, () => writer.tag(1, VARINT).int64(seconds).tag(2, VARINT).int32(nanos));
}

// Array.isArray does not exclude a readonly array from the rest of the union.
function isArray(value: Value): value is readonly Value[] {
  return Array.isArray(value);
}
