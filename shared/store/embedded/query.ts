// Converts a Query to SQL over JSON expressions, and to the index with which SQLite answers it without a scan. Does not
// access the database.
import type { Query } from '../store.ts';

export interface QueryPlan {
  /** SQL that creates the index. Indexes are partial, so that a write updates only the indexes of its collection. */
  readonly index: string;
  readonly select: string;
}

/** Key of a plan: queries that differ only in values and limit have the same plan. */
export function shapeOf(query: Query): string {
  const where = Object.keys(query.where ?? {}).sort();
  const { collection, contains, orderBy, direction = 'asc', after, withExpired } = query;
  const options = [after ? 'after' : '', withExpired ? 'expired' : ''];
  return [collection, where.join('+'), contains?.field, orderBy, direction, ...options].join(' ');
}

/**
 * `checkQuery` must have accepted the names: they are inserted into the statement, because index expressions cannot be
 * parameters.
 */
export function planQuery(query: Query): QueryPlan {
  const filters = Object.keys(query.where ?? {}).sort();
  const keys = [...filters.map(field), field(query.orderBy)];
  const descending = query.direction === 'desc';
  const direction = descending ? 'DESC' : 'ASC';
  const beyond = descending ? '<' : '>';
  const order = field(query.orderBy);
  const conditions = [
    `collection = '${query.collection}'`,
    ...filters.map((name) => `${field(name)} = ?`),
    // Written as a range of one expression: SQLite does not use an index over expressions for a row value. Numbers sort
    // before text, so every value except NULL is above the lowest number.
    query.after ? `${order} ${beyond}= ? AND (${order} ${beyond} ? OR id ${beyond} ?)` : `${order} >= -9e999`,
    // Checked for each document of the range: SQLite has no index over the elements of an array.
    ...(query.contains ? [containsOne(query.contains.field)] : []),
    ...(query.withExpired ? [] : ['(expire_at IS NULL OR expire_at > ?)']),
  ];
  const name = `query:${query.collection}:${[...filters, query.orderBy].join(':')}`;
  // INDEXED BY, because without statistics SQLite uses the primary key of the collection and sorts.
  return {
    index:
      `CREATE INDEX IF NOT EXISTS "${name}" ON documents (${keys.join(', ')}, id) WHERE collection = ` +
      `'${query.collection}'`,
    select: `SELECT id, version, data, expire_at FROM documents INDEXED BY "${name}" WHERE ${conditions.join(' AND ')}
      ORDER BY ${order} ${direction}, id ${direction} LIMIT ?`,
  };
}

/** The parameters of the plan's `select`, in order. */
export function parametersOf(query: Query, nowMs: number): (string | number)[] {
  const where = query.where ?? {};
  const filters = Object.keys(where)
    .sort()
    .map((name) => where[name] ?? '');
  const after = query.after ? [query.after.value, query.after.value, query.after.id] : [];
  const contained = query.contains ? [query.contains.value] : [];
  return [...filters, ...after, ...contained, ...(query.withExpired ? [] : [nowMs]), query.limit];
}

function containsOne(name: string): string {
  const elements = `json_each(documents.data, '$.${name}')`;
  return `json_type(data, '$.${name}') = 'array' AND EXISTS (SELECT 1 FROM ${elements} WHERE value = ?)`;
}

function field(name: string): string {
  return `json_extract(data, '$.${name}')`;
}
