// Decodes responses of google.firestore.v1. Fields that the store does not use are skipped.
import { BinaryReader } from '@bufbuild/protobuf/wire';
import type { Data, Value } from '../store.ts';
import type { Transaction, WireDocument, WireTimestamp } from './wire.ts';

/** The document of a response to BatchGetDocuments or RunQuery; undefined: it has none. */
export function decodeDocument(bytes: Uint8Array): WireDocument | undefined {
  let document: WireDocument | undefined;
  readMessage(bytes, (reader, field) => {
    if (field === 1) document = readDocument(reader);
    return field === 1;
  });
  return document;
}

/** The update times of the writes, in their order. */
export function decodeCommit(bytes: Uint8Array): (WireTimestamp | undefined)[] {
  const times: (WireTimestamp | undefined)[] = [];
  let commitTime: WireTimestamp | undefined;
  readMessage(bytes, (reader, field) => {
    if (field === 1) times.push(readUpdateTime(reader));
    if (field === 2) commitTime = readTimestamp(reader);
    return field === 1 || field === 2;
  });
  return times.map((time) => time ?? commitTime);
}

export function decodeBegin(bytes: Uint8Array): Transaction {
  let transaction: Transaction = new Uint8Array();
  readMessage(bytes, (reader, field) => {
    if (field === 1) transaction = reader.bytes();
    return field === 1;
  });
  return transaction;
}

/** Of a response without content. */
export function decodeEmpty(): undefined {
  return undefined;
}

function readDocument(reader: BinaryReader): WireDocument {
  let name = '';
  let data: Data | undefined;
  let expireAt: WireTimestamp | undefined;
  let updateTime: WireTimestamp | undefined;
  readFields(reader, nested(reader), (field) => {
    if (field === 1) name = reader.string();
    else if (field === 4) updateTime = readTimestamp(reader);
    else if (field === 2) {
      readEntry(reader, (key, end) => {
        if (key === 'data') data = toMap(readValue(reader, end));
        else if (key === 'expire_at') expireAt = readTimestampValue(reader, end);
      });
    } else return false;
    return true;
  });
  return { name, data, expireAt, updateTime };
}

/** The update time of a WriteResult. */
function readUpdateTime(reader: BinaryReader): WireTimestamp | undefined {
  let updateTime: WireTimestamp | undefined;
  readFields(reader, nested(reader), (field) => {
    if (field === 1) updateTime = readTimestamp(reader);
    return field === 1;
  });
  return updateTime;
}

function readTimestamp(reader: BinaryReader): WireTimestamp {
  let seconds = 0;
  let nanos = 0;
  readFields(reader, nested(reader), (field) => {
    if (field === 1) seconds = Number(reader.int64());
    if (field === 2) nanos = reader.int32();
    return field === 1 || field === 2;
  });
  return { seconds, nanos };
}

/** The timestamp of a message Value; undefined: the value is none. */
function readTimestampValue(reader: BinaryReader, end: number): WireTimestamp | undefined {
  let time: WireTimestamp | undefined;
  readFields(reader, end, (field) => {
    if (field === 10) time = readTimestamp(reader);
    return field === 10;
  });
  return time;
}

/** A message Value; null for types that no document of the gateway has. */
function readValue(reader: BinaryReader, end: number): Value {
  let value: Value = null;
  readFields(reader, end, (field) => {
    if (field === 17) value = reader.string();
    else if (field === 2) value = Number(reader.int64());
    else if (field === 6) value = readMap(reader);
    else if (field === 1) value = reader.bool();
    else if (field === 3) value = reader.double();
    else if (field === 9) value = readItems(reader);
    else return false;
    return true;
  });
  return value;
}

function readItems(reader: BinaryReader): readonly Value[] {
  const items: Value[] = [];
  readFields(reader, nested(reader), (field) => {
    if (field === 1) items.push(readValue(reader, nested(reader)));
    return field === 1;
  });
  return items;
}

function readMap(reader: BinaryReader): Data {
  const map: Record<string, Value> = {};
  readFields(reader, nested(reader), (field) => {
    if (field !== 1) return false;
    readEntry(reader, (key, end) => {
      const value = readValue(reader, end);
      // Assigned, `__proto__` would become the prototype. No document of the gateway has this field.
      if (key !== '__proto__') map[key] = value;
    });
    return true;
  });
  return map;
}

/** Reads one entry of a `map<string, Value>`; `read` reads the content of the value, which ends at `end`. */
function readEntry(reader: BinaryReader, read: (key: string, end: number) => void): void {
  const end = nested(reader);
  let key = '';
  let value = { start: end, end };
  readFields(reader, end, (field) => {
    if (field === 1) key = reader.string();
    else if (field === 2) {
      const valueEnd = nested(reader);
      value = { start: reader.pos, end: valueEnd };
      reader.pos = valueEnd;
    } else return false;
    return true;
  });
  reader.pos = value.start;
  read(key, value.end);
  reader.pos = end;
}

function toMap(value: Value): Data | undefined {
  return isMap(value) ? value : undefined;
}

function isMap(value: Value): value is Data {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function readMessage(bytes: Uint8Array, read: (reader: BinaryReader, field: number) => boolean): void {
  const reader = new BinaryReader(bytes);
  readFields(reader, reader.len, (field) => read(reader, field));
}

/** Calls `read` for each field until `end`; it reads the field, or returns false, so that the field is skipped. */
function readFields(reader: BinaryReader, end: number, read: (field: number) => boolean): void {
  while (reader.pos < end) {
    const [field, type] = reader.tag();
    if (!read(field)) reader.skip(type, field);
  }
}

/** The position at which the message ends that begins here. */
function nested(reader: BinaryReader): number {
  const length = reader.uint32();
  return reader.pos + length;
}
