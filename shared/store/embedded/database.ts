// Opens the SQLite file of the embedded store with its schema, and converts SQLite's errors.
import { closeSync, openSync, type Stats, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { dataDirectoryGone, RpcError } from '../../errors.ts';
import { makeDirectorySync } from '../../make-directory.ts';

const SCHEMA_VERSION = 1;
/**
 * Longest time for which SQLite may block the event loop to wait for another process's lock; longer waits are
 * asynchronous.
 */
const BUSY_BLOCK_MS = 50;
const BUSY_OPEN_MS = 5_000;
const BUSY_OPEN_PAUSE_MS = 10;
/** The presence of the file is checked at most once in this time. */
const PRESENT_MS = 1_000;
/**
 * Pages between two checkpoints (16 MiB). A checkpoint blocks the event loop for an fsync: every 100 prompts with
 * SQLite's default of 1,000 pages, every 400 with this value.
 */
const CHECKPOINT_PAGES = 4_000;

/** SQLite primary result codes, https://sqlite.org/rescode.html */
const BUSY = 5;
const LOCKED = 6;

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS documents (
    collection TEXT NOT NULL,
    id TEXT NOT NULL,
    version TEXT NOT NULL,
    data TEXT NOT NULL,
    expire_at INTEGER,
    PRIMARY KEY (collection, id)
  );
  CREATE INDEX IF NOT EXISTS documents_expire_at ON documents (expire_at) WHERE expire_at IS NOT NULL;
  PRAGMA user_version = ${SCHEMA_VERSION};
`;

/**
 * Opens (and creates: directory 0700, file 0600) the database at `path`, or one in memory for `:memory:`. Throws an
 * Error with the path and the reason if that fails.
 */
export function openDatabase(path: string): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    if (path !== ':memory:') {
      makeDirectorySync(dirname(path), 0o700);
      // Opening a FIFO would block for ever.
      if (statSync(path, { throwIfNoEntry: false })?.isFile() === false) throw new Error('it is not a file');
      closeSync(openSync(path, 'a', 0o600));
    }
    database = new DatabaseSync(path, { timeout: BUSY_OPEN_MS });
    prepareDatabase(database);
    return database;
  } catch (error) {
    database?.close();
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(
      `embedded store: cannot open ${path}: ${reason} (GATEWAY_DATA_DIR must be a directory that can be written to)`,
      { cause: error },
    );
  }
}

/**
 * Returns a check that throws RpcError `unavailable` once the file at `path` is not the opened one: writes to the
 * deleted file would be lost with the process. `now` checks at once, otherwise at most once a second.
 */
export function createPresenceCheck(path: string): (how?: 'now') => void {
  if (path === ':memory:') return () => {};
  const opened = statSync(path);
  let presentMs = performance.now();
  return (how) => {
    if (how !== 'now' && performance.now() - presentMs < PRESENT_MS) return;
    let found: Stats;
    try {
      found = statSync(path);
      if (found.ino !== opened.ino || found.dev !== opened.dev) throw new Error(`another file is at ${path}`);
    } catch (cause) {
      presentMs = Number.NEGATIVE_INFINITY;
      throw dataDirectoryGone(cause);
    }
    presentMs = performance.now();
  };
}

/** Whether the error is the lock of another connection, after which a retry can succeed. */
export function isBusy(error: unknown): boolean {
  const code = primaryCode(error);
  return code === BUSY || code === LOCKED;
}

/**
 * Converts failures of SQLite (disk full, unreadable, corrupt, closed) to `unavailable`; returns other errors
 * unchanged.
 */
export function toStoreError(error: unknown): unknown {
  return primaryCode(error) === undefined ? error : new RpcError('unavailable', { cause: error });
}

function prepareDatabase(database: DatabaseSync): void {
  switchToWal(database);
  database.exec(`PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 33554432;
    PRAGMA wal_autocheckpoint = ${CHECKPOINT_PAGES};`);
  const found = database.prepare('PRAGMA user_version').get()?.user_version;
  if (found !== SCHEMA_VERSION) {
    if (found !== 0) throw new Error(`its schema version is ${String(found)}, this version supports ${SCHEMA_VERSION}`);
    database.exec(`BEGIN IMMEDIATE; ${SCHEMA} COMMIT;`);
  }
  database.exec(`PRAGMA busy_timeout = ${BUSY_BLOCK_MS};`);
}

/**
 * If several processes open a new file at a time, one of them switches the mode; SQLite refuses the others at once,
 * without its busy timeout.
 */
function switchToWal(database: DatabaseSync): void {
  const deadlineMs = performance.now() + BUSY_OPEN_MS;
  const never = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    try {
      database.exec('PRAGMA journal_mode = WAL');
      return;
    } catch (error) {
      if (!isBusy(error) || performance.now() >= deadlineMs) throw error;
    }
    Atomics.wait(never, 0, 0, BUSY_OPEN_PAUSE_MS);
  }
}

function primaryCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return undefined;
  return error.errcode & 0xff;
}
