// The SQL of transactions, and of savepoints within them.
import type { DatabaseSync } from 'node:sqlite';

export interface Transactions {
  /** Runs `work` atomically under the database's write lock, or with `DEFERRED` on one consistent state. */
  transaction<R>(mode: 'IMMEDIATE' | 'DEFERRED', work: () => R): R;
  /** Runs `work` atomically within a transaction (savepoint). */
  nested<R>(work: () => R): R;
}

export function createTransactions(database: DatabaseSync): Transactions {
  const begin = { IMMEDIATE: database.prepare('BEGIN IMMEDIATE'), DEFERRED: database.prepare('BEGIN DEFERRED') };
  const commit = database.prepare('COMMIT');
  const rollback = database.prepare('ROLLBACK');
  const savepoint = database.prepare('SAVEPOINT one');
  const rollbackTo = database.prepare('ROLLBACK TO one');
  const release = database.prepare('RELEASE one');

  return {
    transaction(mode, work) {
      begin[mode].run();
      try {
        const result = work();
        commit.run();
        return result;
      } catch (error) {
        // Some failures (disk full, I/O) have already rolled back; a second rollback would hide the first error.
        if (database.isTransaction) rollback.run();
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
  };
}
