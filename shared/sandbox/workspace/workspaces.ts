// Creates the directories of each key on this machine: a home and a /tmp that persist between calls, named after a hash
// of the key id. Keys share no writable file.
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { chmod, rename } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { codeOf, dataDirectoryGone, RpcError } from '../../errors.ts';
import { makeDirectory } from '../../make-directory.ts';
import { makeEtc } from './etc.ts';
import { removeLeftovers, runPrefix } from './run-mark.ts';
import { createUids, giveTo } from './uids.ts';

/** Names of the keys' directories. Other entries beside them belong to no key. */
const DIRECTORY = /^[\da-f]{32}$/;

/** Prefix of the names of directories that are being removed. */
const REMOVED = 'removed';

export interface Workspace {
  /** Directories of the machine. */
  readonly home: string;
  readonly tmp: string;
  /** The directory that is mounted as /etc: ETC_NAMES and mount points. */
  readonly etc: string;
  /** The uid of the key's processes if the gateway runs as root; undefined: they have the gateway's uid. */
  readonly uid: number | undefined;
}

export interface Workspaces {
  /**
   * Creates the missing directories; cheap when they exist. Throws RpcError `unavailable` when the disk is full, and
   * when `root` was replaced by another directory: the helper process that starts sandboxes still has the old one
   * mounted (own-uid.ts).
   */
  open(keyId: string): Promise<Workspace>;
  /**
   * Gives the directory of a key another name, under which the caller removes it; `open` creates a new one then.
   * `home`: its path before. Undefined if the key has none.
   */
  detach(keyId: string): Promise<{ readonly directory: string; readonly home: string } | undefined>;
}

/**
 * Number of keys whose directories are remembered; the oldest key is removed first, and its directories are checked
 * again.
 */
const REMEMBERED_MAX = 1000;

export function createWorkspaces(root: string, isRoot: boolean): Workspaces {
  const known = new Map<string, Promise<Workspace>>();
  const base = resolve(root);
  const uids = createUids(base, DIRECTORY);
  let etc: Promise<string> | undefined;
  let firstInode: number | undefined;
  void removeLeftovers(base, REMOVED);

  return {
    async open(keyId) {
      checkRoot();
      let opened = known.get(keyId);
      if (opened !== undefined && !existsSync((await opened).home)) {
        known.delete(keyId);
        opened = undefined;
      }
      if (opened === undefined) {
        opened = make(keyId).catch(throwIfDiskFull);
        known.set(keyId, opened);
        // A failure is not cached: the disk may have room the next time.
        opened.catch(() => known.delete(keyId));
        const oldest = known.keys().next();
        if (known.size > REMEMBERED_MAX && !oldest.done) known.delete(oldest.value);
      }
      return opened;
    },

    async detach(keyId) {
      checkRoot();
      known.delete(keyId);
      const { directory } = placeOf(keyId);
      const removed = join(base, `${runPrefix(REMOVED)}${randomUUID()}`);
      try {
        await rename(directory, removed);
      } catch (error) {
        if (codeOf(error) !== 'ENOENT') throw error;
        return undefined;
      }
      return { directory: removed, home: join(directory, 'home') };
    },
  };

  function placeOf(keyId: string) {
    const digest = createHash('sha256').update(keyId).digest();
    const name = digest.toString('hex').slice(0, 32);
    return { name, directory: join(base, name), hash: digest.readUInt32BE(0) };
  }

  function checkRoot(): void {
    if (firstInode === undefined) return;
    try {
      if (statSync(base).ino !== firstInode) throw new Error(`another directory is at ${base}`);
    } catch (cause) {
      throw dataDirectoryGone(cause);
    }
  }

  async function make(keyId: string): Promise<Workspace> {
    etc ??= makeEtc(base).catch((error: unknown) => {
      etc = undefined;
      throw error;
    });
    const { name, directory, hash } = placeOf(keyId);
    const uid = isRoot ? await uids.of(name, hash) : undefined;
    const workspace = { home: join(directory, 'home'), tmp: join(directory, 'tmp'), etc: await etc, uid };
    firstInode ??= statSync(base).ino;
    await makeDirectory(directory, 0o700);
    // The key's uid must be able to pass through this directory of root (own-uid.ts).
    if (uid !== undefined) await chmod(directory, 0o711);
    for (const path of [workspace.home, workspace.tmp]) {
      await makeDirectory(path, 0o700);
      if (uid !== undefined) await giveTo(uid, path);
    }
    return workspace;
  }
}

/** A full disk is reported as `unavailable`: the request is valid, and the caller cannot solve the problem. */
function throwIfDiskFull(error: unknown): never {
  const code = codeOf(error);
  if (code !== 'ENOSPC' && code !== 'EDQUOT') throw error;
  throw new RpcError('unavailable', {
    message: 'The disk of the workspaces is full: the operator has to free space',
    data: { disk_full: true },
    retryAfterMs: 10_000,
    cause: error,
  });
}
