// Reads, queries and writes documents through an open client. No deadlines, no retries.
import type { Bounds } from '../../async.ts';
import { toStored } from '../document.ts';
import { Conflict, type Precondition, type Query, type Ref, type Snapshot, type Write } from '../store.ts';
import type { FirestoreClient } from './client.ts';
import { fromDocumentId, toDocumentId, toWireQuery } from './query.ts';
import { fromVersion, toFields, toSnapshot } from './values.ts';
import type { Transaction, WireDocument, WireFields, WireWrite, WritePrecondition } from './wire.ts';

/** A write whose data were validated and encoded before the store is called. */
export interface Prepared {
  readonly write: Write;
  readonly fields: WireFields | undefined;
  /** The paths of the fields that are written; undefined: the whole document. */
  readonly paths?: string[] | undefined;
}

/**
 * Throws TypeError for data that no adapter stores. Of a document that was made from the version that it requires, only
 * the changed fields are sent: the heartbeat of a turn is some hundred bytes, its conversation up to 192 KiB.
 */
export function prepareWrite(write: Write): Prepared {
  if ('delete' in write) return { write, fields: undefined };
  const data = toStored(write.data);
  const changed = changedFields(write);
  if (changed === undefined) return { write, fields: toFields(data, write.expireAtMs) };
  const sent = Object.fromEntries(Object.entries(data).filter(([name]) => changed.has(name)));
  const paths = ['expire_at', ...[...changed].map((name) => `data.${quoted(name)}`)];
  return { write, fields: toFields(sent, write.expireAtMs), paths };
}

/** The names of the top-level fields that differ from the required version; a removed one is among them. */
function changedFields(write: Exclude<Write, { delete: true }>): Set<string> | undefined {
  const { data, base, if: condition } = write;
  if (base === undefined || typeof condition !== 'object') return undefined;
  const before = new Map<string, unknown>(Object.entries(base));
  const changed = Object.entries(data).filter(([name, value]) => before.get(name) !== value);
  const removed = [...before.keys()].filter((name) => !Object.hasOwn(data, name));
  return new Set([...changed.map(([name]) => name), ...removed]);
}

/** A segment of a field path. */
function quoted(name: string): string {
  return `\`${name.replaceAll(/[\\`]/g, '\\$&')}\``;
}

/** The documents of `refs` in order, in `transaction` if given. */
export async function readDocuments(
  client: FirestoreClient,
  refs: readonly Ref[],
  nowMs: () => number,
  bounds: Bounds,
  transaction?: Transaction,
): Promise<Snapshot[]> {
  if (refs.length === 0) return [];
  const names = refs.map((ref) => nameOf(client, ref));
  const found = await client.get([...new Set(names)], bounds, transaction);
  return refs.map((ref, index) => {
    const document = found.get(names[index] ?? '');
    return document === undefined ? { ref, data: undefined, version: null } : toSnapshot(ref, document, nowMs());
  });
}

/**
 * Returns `limit` documents that have not expired. Expired ones stay stored for up to a day, so more pages may be read.
 */
export async function queryDocuments(
  client: FirestoreClient,
  query: Query,
  nowMs: () => number,
  bounds: Bounds,
): Promise<Snapshot[]> {
  const found: Snapshot[] = [];
  for (let page = query; ; ) {
    bounds.signal.throwIfAborted();
    const documents = await client.query(
      toWireQuery(page, (id) => nameOf(client, { collection: query.collection, id })),
      bounds,
    );
    for (const document of documents) {
      const ref = { collection: query.collection, id: idOf(document) };
      const snapshot = toSnapshot(ref, document, query.withExpired ? Number.NEGATIVE_INFINITY : nowMs());
      if (snapshot.data !== undefined) found.push(snapshot);
    }
    const last = documents.at(-1);
    const value = last === undefined ? null : positionOf(last, query.orderBy);
    const full = documents.length === page.limit;
    if (!full || found.length >= query.limit || last === undefined || value === null)
      return found.slice(0, query.limit);
    page = { ...query, after: { value, id: idOf(last) } };
  }
}

/** Throws Conflict for a version that is not from this store. */
export function toWireWrite(client: Pick<FirestoreClient, 'nameOf'>, { write, fields, paths }: Prepared): WireWrite {
  const precondition = write.if === undefined ? undefined : toPrecondition(write.if);
  return { name: nameOf(client, write.ref), fields, paths, precondition };
}

function toPrecondition(condition: Precondition): WritePrecondition {
  if (condition === 'absent') return { exists: false };
  const updateTime = fromVersion(condition.version);
  if (updateTime === undefined) throw new Conflict('not a version of this store');
  return { updateTime };
}

export function nameOf(client: Pick<FirestoreClient, 'nameOf'>, ref: Ref): string {
  return client.nameOf(ref.collection, toDocumentId(ref.id));
}

function idOf(document: WireDocument): string {
  return fromDocumentId(document.name.slice(document.name.lastIndexOf('/') + 1));
}

function positionOf(document: WireDocument, field: string): string | number | null {
  const position = document.data?.[field];
  return typeof position === 'string' || typeof position === 'number' ? position : null;
}
