// Converts a Query to that of the wire, and ids to Firestore's document ids.

import type { Query } from '../store.ts';
import type { WireFilter, WireQuery } from './wire.ts';

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
  const { collection, where = {}, contains, orderBy, direction = 'asc', after, limit } = query;
  const filters: WireFilter[] = Object.entries(where).map(([field, value]) => toFilter(field, 'equal', value));
  if (contains !== undefined) filters.push(toFilter(contains.field, 'array-contains', contains.value));
  return {
    collection,
    filters,
    orderBy: `data.${orderBy}`,
    direction,
    after: after === undefined ? undefined : { value: after.value, name: nameOf(after.id) },
    limit,
  };
}

function toFilter(field: string, op: WireFilter['op'], value: string): WireFilter {
  return { path: `data.${field}`, op, value };
}
