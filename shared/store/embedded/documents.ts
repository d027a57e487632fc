// The SQL of the embedded store: one table of documents, prepared statements, and versions that are never used twice.
// Synchronous; embedded.ts adds waiting, deadlines and watchers.
import { randomBytes } from 'node:crypto';
import type { DatabaseSync, SQLOutputValue, StatementSync } from 'node:sqlite';
import type { WallClock } from '../../clock.ts';
import { toStored } from '../document.ts';
import { Conflict, type Query, type Ref, type Snapshot, type Version, type Write } from '../store.ts';
import { parametersOf, planQuery, shapeOf } from './query.ts';

/** Expired documents that one purge deletes; takes a few milliseconds at most. */
const PURGE_BATCH = 256;
/**
 * Most plans of queries, each with a statement and an index. The queries are in the code, so more plans are a mistake.
 */
const SHAPES_MAX = 64;

/** A write that was validated and serialised before a lock is taken. */
export interface Prepared {
  readonly write: Write;
  readonly json: string;
  readonly expireAtMs: number | null;
}

export interface Documents {
  read(ref: Ref): Snapshot;
  query(query: Query): Snapshot[];
  /**
   * Writes one document and returns its version (null for a delete); throws Conflict when the precondition does not
   * hold.
   */
  apply(prepared: Prepared): Version | null;
  /** Runs `work` atomically under the database's write lock, or with `DEFERRED` on one consistent state. */
  transaction<R>(mode: 'IMMEDIATE' | 'DEFERRED', work: () => R): R;
  /** Runs `work` atomically within a transaction (savepoint). */
  nested<R>(work: () => R): R;
  /** Deletes some expired documents. */
  purge(): void;
  /** A value that changes when another connection has committed. */
  foreignChanges(): unknown;
}

/** Validates and serialises a write; throws TypeError for data that no adapter stores. */
export function prepareWrite(write: Write): Prepared {
  if ('delete' in write) return { write, json: '', expireAtMs: null };
  return { write, json: JSON.stringify(toStored(write.data)), expireAtMs: write.expireAtMs ?? null };
}

/** Prepares the statements on an open database (embedded-database.ts). */
export function createDocuments(database: DatabaseSync, clock: WallClock): Documents {
  const select = database.prepare('SELECT version, data, expire_at FROM documents WHERE collection = ? AND id = ?');
  const insert = database.prepare('INSERT INTO documents VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING');
  const upsert = database.prepare(`INSERT INTO documents VALUES (?, ?, ?, ?, ?) ON CONFLICT (collection, id)
    DO UPDATE SET version = excluded.version, data = excluded.data, expire_at = excluded.expire_at`);
  const update = database.prepare(
    'UPDATE documents SET version = ?, data = ?, expire_at = ? WHERE collection = ? AND id = ? AND version = ?',
  );
  const remove = database.prepare('DELETE FROM documents WHERE collection = ? AND id = ?');
  const removeVersion = database.prepare('DELETE FROM documents WHERE collection = ? AND id = ? AND version = ?');
  const purge = database.prepare(
    'DELETE FROM documents WHERE rowid IN (SELECT rowid FROM documents WHERE expire_at <= ? LIMIT ?)',
  );
  const dataVersion = database.prepare('PRAGMA data_version');
  const begin = { IMMEDIATE: database.prepare('BEGIN IMMEDIATE'), DEFERRED: database.prepare('BEGIN DEFERRED') };
  const [end, undo] = [database.prepare('COMMIT'), database.prepare('ROLLBACK')];
  const savepoint = database.prepare('SAVEPOINT one');
  const rollbackTo = database.prepare('ROLLBACK TO one');
  const release = database.prepare('RELEASE one');
  const queries = new Map<string, StatementSync>();
  // Versions are a random nonce of this handle and a counter, so that no version repeats even if another process writes
  // to the file.
  const nonce = randomBytes(9).toString('base64url');
  let counter = 0;

  const write = ({ write, json, expireAtMs }: Prepared): { version: Version | null; held: boolean } => {
    const { collection, id } = write.ref;
    const condition = write.if;
    if ('delete' in write) {
      if (condition === 'absent') return { version: null, held: select.get(collection, id) === undefined };
      if (condition !== undefined) {
        return { version: null, held: removeVersion.run(collection, id, condition.version).changes === 1 };
      }
      remove.run(collection, id);
      return { version: null, held: true };
    }
    const version = `${nonce}.${(++counter).toString(36)}`;
    if (condition === undefined) {
      upsert.run(collection, id, version, json, expireAtMs);
      return { version, held: true };
    }
    const { changes } =
      condition === 'absent'
        ? insert.run(collection, id, version, json, expireAtMs)
        : update.run(version, json, expireAtMs, collection, id, condition.version);
    return { version, held: changes === 1 };
  };

  const statementFor = (query: Query): StatementSync => {
    const shape = shapeOf(query);
    const known = queries.get(shape);
    if (known !== undefined) return known;
    if (queries.size >= SHAPES_MAX) throw new TypeError('store: too many shapes of queries');
    const plan = planQuery(query);
    database.exec(plan.index);
    const statement = database.prepare(plan.select);
    queries.set(shape, statement);
    return statement;
  };

  return {
    read(ref) {
      const row = select.get(ref.collection, ref.id);
      return row === undefined ? { ref, data: undefined, version: null } : toSnapshot(ref, row, clock.now());
    },
    query(query) {
      const nowMs = clock.now();
      const rows = statementFor(query).all(...parametersOf(query, nowMs));
      return rows.map((row) => toSnapshot({ collection: query.collection, id: String(row.id) }, row, nowMs));
    },
    apply(prepared) {
      const { version, held } = write(prepared);
      if (!held) throw new Conflict();
      return version;
    },
    transaction(mode, work) {
      begin[mode].run();
      try {
        const result = work();
        end.run();
        return result;
      } catch (error) {
        // Some failures (disk full, I/O) have already rolled back; a second rollback would hide the first error.
        if (database.isTransaction) undo.run();
        throw error;
      }
    },
    nested(work) {
      savepoint.run();
      try {
        return work();
      } catch (error) {
        if (database.isTransaction) rollbackTo.run();
        throw error;
      } finally {
        if (database.isTransaction) release.run();
      }
    },
    purge: () => void purge.run(clock.now(), PURGE_BATCH),
    foreignChanges: () => dataVersion.get()?.data_version,
  };
}

function toSnapshot(ref: Ref, row: Record<string, SQLOutputValue>, nowMs: number): Snapshot {
  const expireAt = row.expire_at;
  const expired = typeof expireAt === 'number' && expireAt <= nowMs;
  return { ref, data: expired ? undefined : JSON.parse(String(row.data)), version: String(row.version) };
}
