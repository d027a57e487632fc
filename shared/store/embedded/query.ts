// Turns a Query into SQL over JSON expressions, and the index that answers it without a scan. Uses no connection.
import type { Query } from '../store.ts';

export interface QueryPlan {
  /** Creates the index; indexes are partial, so that a document pays only for the queries of its own collection. */
  readonly index: string;
  readonly select: string;
}

/** Same shape, same plan: values and limit are parameters. */
export function shapeOf(query: Query): string {
  const where = Object.keys(query.where ?? {}).sort();
  return [query.collection, where.join('+'), query.orderBy, query.direction ?? 'asc', query.after ? 'after' : ''].join(
    ' ',
  );
}

/**
 * Names must have passed `checkQuery`: they are written into the statement, as index expressions cannot be parameters.
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
    // Written as a range of one expression: SQLite does not use an index over expressions for a row value. Numbers come
    // before text, so that everything but NULL is above the least number.
    query.after ? `${order} ${beyond}= ? AND (${order} ${beyond} ? OR id ${beyond} ?)` : `${order} >= -9e999`,
    '(expire_at IS NULL OR expire_at > ?)',
  ];
  const name = `query:${query.collection}:${[...filters, query.orderBy].join(':')}`;
  // INDEXED BY: without statistics SQLite would rather take the primary key of the collection and sort.
  return {
    index:
      `CREATE INDEX IF NOT EXISTS "${name}" ON documents (${keys.join(', ')}, id) WHERE collection = ` +
      `'${query.collection}'`,
    select: `SELECT id, version, data, expire_at FROM documents INDEXED BY "${name}" WHERE ${conditions.join(' AND ')}
      ORDER BY ${order} ${direction}, id ${direction} LIMIT ?`,
  };
}

/** The parameters of the plan's `select`, in its order. */
export function parametersOf(query: Query, nowMs: number): (string | number)[] {
  const where = query.where ?? {};
  const filters = Object.keys(where)
    .sort()
    .map((name) => where[name] ?? '');
  const after = query.after ? [query.after.value, query.after.value, query.after.id] : [];
  return [...filters, ...after, nowMs, query.limit];
}

function field(name: string): string {
  return `json_extract(data, '$.${name}')`;
}
