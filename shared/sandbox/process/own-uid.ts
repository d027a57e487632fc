// How a gateway that is root starts bwrap under the key's own uid. The path to the workspaces is closed to other users,
// so the process that starts bwrap has a mount namespace of its own, in which the workspaces are also mounted at a path
// that all users can reach. Such a bwrap never has root's rights, and needs no program that drops them afterwards.
import { join, relative, resolve } from 'node:path';

/** A file system in memory in that namespace. */
const MOUNTED_AT = '/mnt';
const WORKSPACES_AT = `${MOUNTED_AT}/workspaces`;

/** The command prefix for a program, run as root, that sees `directory` at WORKSPACES_AT where the mounts succeed. */
export function showWorkspaces(directory: string): readonly string[] {
  const script = `mount -t tmpfs -o mode=755 tmpfs ${MOUNTED_AT} &&
mkdir ${WORKSPACES_AT} && mount --bind "$0" ${WORKSPACES_AT}
exec "$@"`;
  return ['/usr/bin/unshare', '--mount', '--', '/bin/sh', '-c', script, resolve(directory)];
}

/** The path at which such a program finds a path below the workspaces' directory. */
export function toShown(path: string, directory: string): string {
  return join(WORKSPACES_AT, relative(resolve(directory), path));
}

/**
 * The command prefix for a program, run as root by one that sees the workspaces: each of `paths` is mounted at the
 * place of the same index, however closed its parents are. The mounts end with the program.
 */
export function showPaths(paths: readonly string[]): {
  readonly before: readonly string[];
  readonly places: readonly string[];
} {
  const places = paths.map((_, index) => `${MOUNTED_AT}/shown/${index}`);
  // A file system for each start: under the same number, another start may need a directory where this one needs a
  // file.
  const script = `mkdir -p ${MOUNTED_AT}/shown && mount -t tmpfs -o mode=755 tmpfs ${MOUNTED_AT}/shown || exit
index=0
for path do
  shift
  [ "$path" = -- ] && exec "$@"
  at=${MOUNTED_AT}/shown/$index
  if [ -d "$path" ]; then mkdir $at; else : > $at; fi
  mount --bind "$path" $at || exit
  index=$((index + 1))
done`;
  return { before: ['/usr/bin/unshare', '--mount', '--', '/bin/sh', '-c', script, 'show', ...paths, '--'], places };
}

/** The command prefix for a program, run as root, that must run under another uid. */
export function takeUid(uid: number): readonly string[] {
  return ['/usr/bin/setpriv', '--reuid', String(uid), '--regid', String(uid), '--clear-groups', '--'];
}
