// Converts between documents of the port and of the wire: update times are versions, and the envelope has the time of
// expiry.

import type { Data, Ref, Snapshot, Version } from '../store.ts';
import type { WireDocument, WireFields, WireTimestamp } from './wire.ts';

/** The envelope of a document. */
export function toFields(data: Data | undefined, expireAtMs: number | undefined): WireFields {
  if (expireAtMs === undefined) return { data };
  const seconds = Math.floor(expireAtMs / 1000);
  return { data, expireAt: { seconds, nanos: Math.round((expireAtMs - seconds * 1000) * 1e6) } };
}

/** Converts a stored document to a snapshot, without data if it has expired. */
export function toSnapshot(ref: Ref, { data, expireAt, updateTime }: WireDocument, nowMs: number): Snapshot {
  const expired = expireAt !== undefined && toMs(expireAt) <= nowMs;
  // A document without the envelope is empty.
  return { ref, data: expired ? undefined : (data ?? {}), version: toVersion(updateTime) };
}

/** Seconds and nanoseconds since the epoch, the full precision of an update time. */
export function toVersion(time: WireTimestamp | undefined): Version {
  return `${time?.seconds ?? 0}.${String(time?.nanos ?? 0).padStart(9, '0')}`;
}

/** The update time of a version; undefined for a version that is not from this store. */
export function fromVersion(version: Version): WireTimestamp | undefined {
  const match = /^(\d{1,12})\.(\d{9})$/.exec(version);
  return match === null ? undefined : { seconds: Number(match[1]), nanos: Number(match[2]) };
}

function toMs({ seconds, nanos }: WireTimestamp): number {
  return seconds * 1000 + nanos / 1e6;
}
