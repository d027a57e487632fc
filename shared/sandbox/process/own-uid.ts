// How a gateway that is root starts bwrap under the key's own uid. The way to the workspaces is barred to others, so
// the process that starts bwrap has a mount namespace of its own, in which they are also at a place that all users may
// reach. Such a bwrap never has root's rights, and a program that would give them up afterwards is saved.
import { join, relative, resolve } from 'node:path';

/** In that namespace a file system in memory. */
const MOUNTED_AT = '/mnt';
const WORKSPACES_AT = `${MOUNTED_AT}/workspaces`;

/** What goes in front of a program, to be run as root, that is to see `directory` at WORKSPACES_AT, if that can be. */
export function showWorkspaces(directory: string): readonly string[] {
  const script = `mount -t tmpfs -o mode=755 tmpfs ${MOUNTED_AT} &&
mkdir ${WORKSPACES_AT} && mount --bind "$0" ${WORKSPACES_AT}
exec "$@"`;
  return ['/usr/bin/unshare', '--mount', '--', '/bin/sh', '-c', script, resolve(directory)];
}

/** Where such a program finds a path below the workspaces' directory. */
export function toShown(path: string, directory: string): string {
  return join(WORKSPACES_AT, relative(resolve(directory), path));
}

/**
 * What goes in front of a program, to be run as root by one that sees the workspaces: it sees each of `paths`, however
 * barred the way there is, at the place of the same index. The mounts end with it.
 */
export function showPaths(paths: readonly string[]): {
  readonly before: readonly string[];
  readonly places: readonly string[];
} {
  const places = paths.map((_, index) => `${MOUNTED_AT}/shown/${index}`);
  // A file system for each start: of the same number, another start may need a directory where this one needs a file.
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

/** What goes in front of a program, to be run as root, that is to run under another uid. */
export function takeUid(uid: number): readonly string[] {
  return ['/usr/bin/setpriv', '--reuid', String(uid), '--regid', String(uid), '--clear-groups', '--'];
}
