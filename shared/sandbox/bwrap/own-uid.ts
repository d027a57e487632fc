// Command prefixes with which a gateway that runs as root starts bwrap under the uid of the key. Other users cannot
// reach the workspaces at their path, so the helper process that starts bwrap has its own mount namespace, in which the
// workspaces are also mounted at a path that all users can reach. So bwrap never has the rights of root, and no later
// program has to drop them.
import { join, relative, resolve } from 'node:path';

/** A tmpfs in that mount namespace. */
const MOUNTED_AT = '/mnt';
const WORKSPACES_AT = `${MOUNTED_AT}/workspaces`;

/**
 * Returns a command prefix, to be run as root: mounts `directory` at WORKSPACES_AT, if the mounts succeed, and executes
 * the program.
 */
export function mountWorkspaces(directory: string): readonly string[] {
  const script = `mount -t tmpfs -o mode=755 tmpfs ${MOUNTED_AT} &&
mkdir ${WORKSPACES_AT} && mount --bind "$0" ${WORKSPACES_AT}
exec "$@"`;
  return ['/usr/bin/unshare', '--mount', '--', '/bin/sh', '-c', script, resolve(directory)];
}

/** Returns the path below WORKSPACES_AT of a path below the workspaces' directory. */
export function toMountedPath(path: string, directory: string): string {
  return join(WORKSPACES_AT, relative(resolve(directory), path));
}

/**
 * Returns a command prefix, to be run as root in that mount namespace: mounts each of `paths` at the place with the
 * same index, so that the user can reach it although the parent directories forbid it. The mounts end with the program.
 */
export function mountPaths(paths: readonly string[]): {
  readonly prefix: readonly string[];
  readonly places: readonly string[];
} {
  const places = paths.map((_, index) => `${MOUNTED_AT}/shown/${index}`);
  // Each start has its own tmpfs, because a place with the same index may be a directory for one start and a file for
  // another.
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
  return { prefix: ['/usr/bin/unshare', '--mount', '--', '/bin/sh', '-c', script, 'show', ...paths, '--'], places };
}

/** Returns a command prefix, to be run as root: executes the program under another uid. */
export function changeUid(uid: number): readonly string[] {
  return ['/usr/bin/setpriv', '--reuid', String(uid), '--regid', String(uid), '--clear-groups', '--'];
}
