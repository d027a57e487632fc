// Converts documents to Firestore's wire format: values, update times as versions, and the envelope `{data,
// expire_at}`. `data` is one map field, so that one index exemption covers everything that no query uses.

import type { Data, Ref, Snapshot, Value, Version } from '../store.ts';
import type { WireDocument, WireFields, WireTimestamp, WireValue } from './wire.ts';

/** The envelope of a document. */
export function toFields(data: Data, expireAtMs: number | undefined): WireFields {
  const fields: WireFields = { data: toWire(data) };
  if (expireAtMs !== undefined) {
    const seconds = Math.floor(expireAtMs / 1000);
    fields.expire_at = { timestampValue: { seconds, nanos: Math.round((expireAtMs - seconds * 1000) * 1e6) } };
  }
  return fields;
}

/** Converts a stored document to a snapshot, without data if it has expired. */
export function toSnapshot(ref: Ref, document: WireDocument, nowMs: number): Snapshot {
  const expireAt = document.fields?.expire_at?.timestampValue;
  const expired = expireAt != null && toMs(expireAt) <= nowMs;
  return {
    ref,
    data: expired ? undefined : fromFields(document.fields?.data?.mapValue?.fields),
    version: toVersion(document.updateTime),
  };
}

/** Seconds and nanoseconds since the epoch, the full precision of an update time. */
export function toVersion(time: WireTimestamp | null | undefined): Version {
  return `${String(time?.seconds ?? 0)}.${String(time?.nanos ?? 0).padStart(9, '0')}`;
}

/** The update time of a version; undefined for a version that is not from this store. */
export function fromVersion(version: Version): WireTimestamp | undefined {
  const match = /^(\d{1,12})\.(\d{9})$/.exec(version);
  return match === null ? undefined : { seconds: match[1] ?? '', nanos: Number(match[2]) };
}

/** One value of a query: a filter or a position. */
export function toWire(value: Value): WireValue {
  switch (typeof value) {
    case 'string':
      return { stringValue: value };
    case 'number':
      return Number.isSafeInteger(value) ? { integerValue: value } : { doubleValue: value };
    case 'boolean':
      return { booleanValue: value };
    default:
      if (value === null) return { nullValue: 'NULL_VALUE' };
      if (isArray(value)) return { arrayValue: { values: value.map(toWire) } };
      return { mapValue: { fields: toWireFields(value) } };
  }
}

function toWireFields(data: Data): WireFields {
  const fields: WireFields = {};
  for (const [name, value] of Object.entries(data)) fields[name] = toWire(value);
  return fields;
}

function fromFields(fields: WireFields | null | undefined): Data {
  const data = Object.create(Object.prototype);
  for (const [name, value] of Object.entries(fields ?? {})) data[name] = fromWire(value);
  return data;
}

/** The value read back. */
export function fromWire(value: WireValue): Value {
  if (value.stringValue != null) return value.stringValue;
  if (value.integerValue != null) return Number(value.integerValue);
  if (value.doubleValue != null) return value.doubleValue;
  if (value.booleanValue != null) return value.booleanValue;
  if (value.mapValue != null) return fromFields(value.mapValue.fields);
  if (value.arrayValue != null) return (value.arrayValue.values ?? []).map(fromWire);
  return null;
}

function toMs(time: WireTimestamp): number {
  return Number(time.seconds ?? 0) * 1000 + (time.nanos ?? 0) / 1e6;
}

// Array.isArray does not exclude a readonly array from the rest of the union.
function isArray(value: Value): value is readonly Value[] {
  return Array.isArray(value);
}
