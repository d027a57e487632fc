// Creates the directories of each key on this machine: a home and a /tmp that persist between calls, named after a hash
// of the key id. Keys share no writable file.
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { chmod, readdir, readFile, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { dataDirectoryGone, RpcError } from '../errors.ts';
import { makeDirectory } from '../make-directory.ts';
import { HOME } from './commands.ts';
import { removeLeftovers, runPrefix } from './process/run-mark.ts';
import { FILTER_KINDS, type FilterKind, toSeccompFilter } from './process/seccomp.ts';
import { createUids, giveTo } from './uids.ts';

/** The uid in every sandbox; it has no rights outside. */
export const UID_INSIDE = 1000;

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

/** Path on the machine of the file with a system call filter. */
export function filterOf({ etc }: Workspace, kind: FilterKind): string {
  return join(etc, filterName(kind));
}

function filterName(kind: FilterKind): string {
  return `seccomp/${kind}.bpf`;
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

const ETC: Readonly<Record<string, string>> = {
  passwd: `user:x:${UID_INSIDE}:${UID_INSIDE}:user:${HOME}:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n`,
  group: `user:x:${UID_INSIDE}:\nnogroup:x:65534:\n`,
  hosts: '127.0.0.1 localhost sandbox\n::1 localhost\n',
  'nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\n',
};

/**
 * Files of the machine's /etc that programs need and that reveal nothing about the machine. They are copied, because a
 * mount of each would slow down every command.
 */
const ETC_COPIED = ['ld.so.cache', 'localtime'];
/** On Debian, programs like /usr/bin/awk and /usr/bin/vi are symbolic links through this directory of /etc. */
const ALTERNATIVES = 'alternatives';
export const ETC_NAMES: readonly string[] = [...Object.keys(ETC), ...ETC_COPIED, ALTERNATIVES];

/**
 * Number of keys whose directories are remembered; the oldest key is forgotten first, and its directories are checked
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
        ignoreMissing(error);
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
    etc ??= makeEtc().catch((error: unknown) => {
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

  async function makeEtc(): Promise<string> {
    const directory = join(base, 'etc');
    // Mount points for sandboxes with network access.
    await makeDirectory(join(directory, 'ssl/certs'), 0o755);
    await makeDirectory(join(directory, 'seccomp'), 0o755);
    const files = Object.entries({ ...ETC, 'resolv.conf': '', 'ssl/openssl.cnf': '' });
    await Promise.all([
      ...files.map(([name, text]) => writeIfChanged(join(directory, name), Buffer.from(text))),
      ...FILTER_KINDS.map(async (kind) => {
        const program = toSeccompFilter(kind);
        if (program !== undefined) await writeIfChanged(join(directory, filterName(kind)), program);
      }),
      ...ETC_COPIED.map(async (name) => {
        const bytes = await readFile(join('/etc', name)).catch(ignoreMissing);
        if (bytes !== undefined) await writeIfChanged(join(directory, name), bytes);
      }),
      copyLinks(join('/etc', ALTERNATIVES), join(directory, ALTERNATIVES)),
    ]);
    return directory;
  }
}

/**
 * A file that already has these bytes is not rewritten: running sandboxes read it, and on a full disk the write would
 * leave it empty.
 */
async function writeIfChanged(path: string, bytes: Buffer): Promise<void> {
  const present = await readFile(path).catch(ignoreMissing);
  if (present?.equals(bytes) !== true) await writeFile(path, bytes, { mode: 0o644 });
}

async function copyLinks(from: string, to: string): Promise<void> {
  await makeDirectory(to, 0o755);
  const entries = await readdir(from, { withFileTypes: true }).catch(() => []);
  for (const { name } of entries.filter((entry) => entry.isSymbolicLink())) {
    const target = await readlink(join(from, name));
    const present = await readlink(join(to, name)).catch(() => undefined);
    if (present === target) continue;
    await rm(join(to, name), { force: true });
    await symlink(target, join(to, name));
  }
}

/** A full disk is reported as `unavailable`: the request is valid, and the caller cannot solve the problem. */
function throwIfDiskFull(error: unknown): never {
  if (!(error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT'))) throw error;
  throw new RpcError('unavailable', {
    message: 'The disk of the workspaces is full: the operator has to free space',
    data: { disk_full: true },
    retryAfterMs: 10_000,
    cause: error,
  });
}

/** For files that do not exist on every machine. */
function ignoreMissing(error: unknown): undefined {
  if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
}
