// Watches which limits of disk and memory a running process reaches.
import type { DiskGuard } from '../quota/disk-guard.ts';
import { diskNotice } from '../quota/disk-notice.ts';
import type { DiskAccess } from '../quota/measured-workspace.ts';
import type { OwnerGroup } from '../quota/memory-groups.ts';
import type { Workspace } from '../workspace/workspaces.ts';
import type { SandboxProcess } from './sandbox-process.ts';

export interface LimitWatch {
  /** Whether the command was killed because its workspace or the disk is full. */
  isKilledForDisk(): boolean;
  /** Messages about the limits that the command reached, appended to its stderr if it failed. */
  notices(): Buffer[];
}

export interface LimitWatchDeps {
  readonly disk: DiskGuard;
  readonly workspace: Workspace;
  readonly access: DiskAccess;
  /** Another directory of the machine to which the process writes. */
  readonly writes: string | undefined;
  /** The memory group of the process; released at the end of the process. */
  readonly group: OwnerGroup | undefined;
  /** The number of processes that were killed in the group before this one was started. */
  readonly killsBefore: number;
}

/** Kills the process when the disk guard requires it. Ends with the process. */
export function watchLimits(child: SandboxProcess, deps: LimitWatchDeps): LimitWatch {
  const { disk, workspace, access, writes, group, killsBefore } = deps;
  let isKilledForDisk = false;
  const kill = (): void => {
    isKilledForDisk = true;
    child.kill(0);
  };
  const unwatch = disk.watch(workspace, { pid: child.pid, access, kill, writes });
  void child.ended.then(() => {
    unwatch();
    group?.release();
  });
  const memoryNotice = () => (group !== undefined && group.oomKills() > killsBefore ? [outOfMemory(group)] : []);
  return {
    isKilledForDisk: () => isKilledForDisk,
    notices: () => [...diskNotice(access, isKilledForDisk), ...memoryNotice()],
  };
}

function outOfMemory({ bytesMax }: OwnerGroup): Buffer {
  const megabytes = Math.floor(bytesMax / 2 ** 20);
  return Buffer.from(
    `\nsandbox: a process was killed: all processes of this key together may use ${megabytes} MB of memory\n`,
  );
}
