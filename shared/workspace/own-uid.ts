// How a gateway that is root starts bwrap under the key's own uid. The way to the workspaces is barred to others, so the process that starts
// bwrap has a mount namespace of its own, in which they are also at a place that anybody may pass. Such a bwrap never has root's rights,
// and the two programs that would give them up afterwards are saved (1.5 of 8.5 ms).
import { join, relative, resolve } from 'node:path';
import type { Workspace } from './workspaces.ts';

const SHOWN_AT = '/mnt';

/** What goes in front of a program, to be run as root, that is to see the workspaces of `directory`; fails where that cannot be. */
export function showWorkspaces(directory: string): readonly string[] {
  const script = `mount --bind "$0" ${SHOWN_AT} && exec "$@"`;
  return ['/usr/bin/unshare', '--mount', '--', '/bin/sh', '-c', script, resolve(directory)];
}

/** What goes in front of a program, to be run as root, that is to run under another uid. */
export function takeUid(uid: number): readonly string[] {
  return ['/usr/bin/setpriv', '--reuid', String(uid), '--regid', String(uid), '--clear-groups', '--'];
}

/** The workspace where such a program sees it. */
export function toShown({ home, tmp, etc, uid }: Workspace, directory: string): Workspace {
  const shown = (path: string): string => join(SHOWN_AT, relative(resolve(directory), path));
  return { home: shown(home), tmp: shown(tmp), etc: shown(etc), uid };
}
