// The directory that every sandbox mounts as /etc. It has the files that programs need there, the same for all keys,
// and the system call filters.
import { readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf } from '../../errors.ts';
import { makeDirectory } from '../../make-directory.ts';
import { HOME } from '../commands.ts';
import { FILTER_KINDS, type FilterKind, toSeccompFilter } from '../seccomp.ts';

/** The uid in every sandbox; it has no rights outside. */
export const UID_INSIDE = 1000;

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

/** Path on the machine of the file with a system call filter. */
export function filterOf({ etc }: { readonly etc: string }, kind: FilterKind): string {
  return join(etc, filterName(kind));
}

function filterName(kind: FilterKind): string {
  return `seccomp/${kind}.bpf`;
}

/** Creates the directory in `base`, or adds what is missing in it; returns its path. */
export async function makeEtc(base: string): Promise<string> {
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

/** For files that do not exist on every machine. */
function ignoreMissing(error: unknown): undefined {
  if (codeOf(error) !== 'ENOENT') throw error;
}
