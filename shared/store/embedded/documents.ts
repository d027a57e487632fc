// The SQL of the embedded store: one table of documents, with prepared statements. Synchronous; embedded.ts adds
// waiting, deadlines and watchers.
import type { DatabaseSync, SQLOutputValue, StatementSync } from 'node:sqlite';
import { LRUCache } from 'lru-cache';
import { shareOfHeap } from '../../bounds/heap-share.ts';
import type { WallClock } from '../../clock.ts';
import type { Data, Query, Ref, Snapshot, Version } from '../store.ts';
import { parametersOf, planQuery, shapeOf } from './query.ts';
import { createTransactions, type Transactions } from './transactions.ts';
import { createWriter, type Prepared } from './writes.ts';

/** Expired documents that one purge deletes; takes a few milliseconds at most. */
const PURGE_BATCH = 256;
/**
 * Most plans of queries, each with a statement and an index. The queries are in the code, so more plans are a mistake.
 */
const SHAPES_MAX = 64;
/** Parsed documents in memory, by the characters of their JSON text; longer documents are parsed at each read. */
const PARSED_CHARS_MAX = shareOfHeap(1 / 64, 8 << 20);
const PARSED_ENTRY_CHARS_MAX = 16 << 10;

export interface Documents extends Transactions {
  read(ref: Ref): Snapshot;
  query(query: Query): Snapshot[];
  /**
   * Writes one document and returns its version (null for a delete); throws Conflict when the precondition does not
   * hold.
   */
  apply(prepared: Prepared): Version | null;
  /** Deletes some expired documents. */
  purge(): void;
  /** A value that changes when another connection has committed. */
  foreignChanges(): unknown;
}

/** Prepares the statements on an open database (database.ts). */
export function createDocuments(database: DatabaseSync, clock: WallClock): Documents {
  const readRow = createRowReader(database);
  const purge = database.prepare(
    'DELETE FROM documents WHERE rowid IN (SELECT rowid FROM documents WHERE expire_at <= ? LIMIT ?)',
  );
  const dataVersion = database.prepare('PRAGMA data_version');
  const statementFor = createQueryStatements(database);

  return {
    ...createTransactions(database),
    apply: createWriter(database),
    read(ref) {
      const row = readRow(ref);
      if (row === undefined) return { ref, data: undefined, version: null };
      const { version, data, expireAtMs } = row;
      return { ref, data: expireAtMs !== null && expireAtMs <= clock.now() ? undefined : data, version };
    },
    query(query) {
      const nowMs = clock.now();
      const expiryMs = query.withExpired ? Number.NEGATIVE_INFINITY : nowMs;
      const rows = statementFor(query).all(...parametersOf(query, nowMs));
      return rows.map((row) => toSnapshot({ collection: query.collection, id: String(row.id) }, row, expiryMs));
    },
    purge: () => void purge.run(clock.now(), PURGE_BATCH),
    foreignChanges: () => dataVersion.get()?.data_version,
  };
}

interface Row {
  readonly version: Version;
  readonly data: Data;
  readonly expireAtMs: number | null;
}

/**
 * Reads rows, whose documents stay parsed in memory. Versions are never used twice, so a document in memory that has
 * the version of the row is the stored one; the statement returns no text for it.
 */
function createRowReader(database: DatabaseSync): (ref: Ref) => Row | undefined {
  const select = database.prepare(
    `SELECT version, expire_at, CASE WHEN version = ? THEN NULL ELSE data END AS data
     FROM documents WHERE collection = ? AND id = ?`,
  );
  const parsed = new LRUCache<string, Omit<Row, 'expireAtMs'>>({
    maxSize: PARSED_CHARS_MAX,
    maxEntrySize: PARSED_ENTRY_CHARS_MAX,
  });
  return ({ collection, id }) => {
    const key = `${collection}/${id}`;
    const known = parsed.get(key);
    const row = select.get(known?.version ?? '', collection, id);
    if (row === undefined) return undefined;
    const expireAtMs = typeof row.expire_at === 'number' ? row.expire_at : null;
    if (known !== undefined && row.data === null) return { ...known, expireAtMs };
    const text = String(row.data);
    const read = { version: String(row.version), data: JSON.parse(text) };
    parsed.set(key, read, { size: 256 + text.length });
    return { ...read, expireAtMs };
  };
}

/** Returns the statement of a query. The first query of a shape creates its index. */
function createQueryStatements(database: DatabaseSync): (query: Query) => StatementSync {
  const statements = new Map<string, StatementSync>();
  return (query) => {
    const shape = shapeOf(query);
    const known = statements.get(shape);
    if (known !== undefined) return known;
    if (statements.size >= SHAPES_MAX) throw new TypeError('store: too many shapes of queries');
    const plan = planQuery(query);
    database.exec(plan.index);
    const statement = database.prepare(plan.select);
    statements.set(shape, statement);
    return statement;
  };
}

function toSnapshot(ref: Ref, row: Record<string, SQLOutputValue>, nowMs: number): Snapshot {
  const expireAt = row.expire_at;
  const expired = typeof expireAt === 'number' && expireAt <= nowMs;
  return { ref, data: expired ? undefined : JSON.parse(String(row.data)), version: String(row.version) };
}
