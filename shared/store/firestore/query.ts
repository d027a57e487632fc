// Converts a Query to Firestore's StructuredQuery, and ids to Firestore's document ids.

import type { Query } from '../store.ts';
import { toWire } from './values.ts';
import type { WireQuery } from './wire.ts';

/** Firestore reserves `__x__`, and a hash may have this form. Ids contain no tilde, so an escaped id is unique. */
const RESERVED_ID = /^__.*__$/;

export function toDocumentId(id: string): string {
  return RESERVED_ID.test(id) ? `~${id}` : id;
}

export function fromDocumentId(id: string): string {
  return id.startsWith('~') ? id.slice(1) : id;
}

/** `nameOf` returns the full name of a document of the collection. */
export function toWireQuery(query: Query, nameOf: (id: string) => string): WireQuery {
  const direction = query.direction === 'desc' ? 'DESCENDING' : 'ASCENDING';
  const filters = Object.entries(query.where ?? {}).map(([field, value]) => toFilter(field, 'EQUAL', value));
  if (query.contains !== undefined) {
    filters.push(toFilter(query.contains.field, 'ARRAY_CONTAINS', query.contains.value));
  }
  const after = query.after;
  return {
    from: [{ collectionId: query.collection }],
    ...(filters.length === 0 ? {} : { where: { compositeFilter: { op: 'AND', filters } } }),
    orderBy: [
      { field: { fieldPath: `data.${query.orderBy}` }, direction },
      { field: { fieldPath: '__name__' }, direction },
    ],
    ...(after === undefined
      ? {}
      : { startAt: { values: [toWire(after.value), { referenceValue: nameOf(after.id) }], before: false } }),
    limit: { value: query.limit },
  };
}

function toFilter(field: string, op: 'EQUAL' | 'ARRAY_CONTAINS', value: string) {
  return { fieldFilter: { field: { fieldPath: `data.${field}` }, op, value: toWire(value) } };
}
