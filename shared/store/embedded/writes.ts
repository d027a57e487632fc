// The SQL that writes one document if its precondition holds, with versions that are never used twice.
import { randomBytes } from 'node:crypto';
import type { DatabaseSync } from 'node:sqlite';
import { toStored } from '../document.ts';
import { Conflict, type Version, type Write } from '../store.ts';

/** A write that was validated and serialised before a lock is taken. */
export interface Prepared {
  readonly write: Write;
  readonly json: string;
  readonly expireAtMs: number | null;
}

/** Validates and serialises a write; throws TypeError for data that no adapter stores. */
export function prepareWrite(write: Write): Prepared {
  if ('delete' in write) return { write, json: '', expireAtMs: null };
  return { write, json: JSON.stringify(toStored(write.data)), expireAtMs: write.expireAtMs ?? null };
}

/** Returns the version of the written document (null for a delete). Throws Conflict if the precondition fails. */
export function createWriter(database: DatabaseSync): (prepared: Prepared) => Version | null {
  const select = database.prepare('SELECT version FROM documents WHERE collection = ? AND id = ?');
  const insert = database.prepare('INSERT INTO documents VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING');
  const upsert = database.prepare(`INSERT INTO documents VALUES (?, ?, ?, ?, ?) ON CONFLICT (collection, id)
    DO UPDATE SET version = excluded.version, data = excluded.data, expire_at = excluded.expire_at`);
  const update = database.prepare(
    'UPDATE documents SET version = ?, data = ?, expire_at = ? WHERE collection = ? AND id = ? AND version = ?',
  );
  const remove = database.prepare('DELETE FROM documents WHERE collection = ? AND id = ?');
  const removeVersion = database.prepare('DELETE FROM documents WHERE collection = ? AND id = ? AND version = ?');
  // Versions are a random nonce of this handle and a counter, so that no version repeats even if another process writes
  // to the file.
  const nonce = randomBytes(9).toString('base64url');
  let counter = 0;

  /** Returns whether the precondition held. */
  const erase = ({ ref: { collection, id }, if: condition }: Write): boolean => {
    if (condition === 'absent') return select.get(collection, id) === undefined;
    if (condition !== undefined) return removeVersion.run(collection, id, condition.version).changes === 1;
    remove.run(collection, id);
    return true;
  };

  /** As `erase`. */
  const put = ({ write, json, expireAtMs }: Prepared, version: Version): boolean => {
    const { collection, id } = write.ref;
    const condition = write.if;
    if (condition === 'absent') return insert.run(collection, id, version, json, expireAtMs).changes === 1;
    if (condition !== undefined) {
      return update.run(version, json, expireAtMs, collection, id, condition.version).changes === 1;
    }
    upsert.run(collection, id, version, json, expireAtMs);
    return true;
  };

  return (prepared) => {
    if ('delete' in prepared.write) {
      if (!erase(prepared.write)) throw new Conflict();
      return null;
    }
    const version = `${nonce}.${(++counter).toString(36)}`;
    if (!put(prepared, version)) throw new Conflict();
    return version;
  };
}
