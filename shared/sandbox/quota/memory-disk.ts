// The limits of workspaces on a disk that is memory (a tmpfs, the file system of a container on Cloud Run): what is
// written there takes memory from the processes, so that all of it together may have only a share.
import { statfsSync } from 'node:fs';
import { totalmem } from 'node:os';
import { dirname } from 'node:path';
import { DISK_LIMITS, type DiskLimits } from '../limits.ts';

/** The share of the memory that all workspaces together may use, and the share of that for one of them. */
const TOTAL_SHARE = 1 / 4;
const WORKSPACE_SHARE = 1 / 2;
/** Memory is filled faster than a disk. */
const CHECK_MS = 20;
/** Types of file systems (statfs(2)): tmpfs, ramfs. */
const MEMORY_TYPES: ReadonlySet<number> = new Set([0x01021994, 0x858458f6]);

/** Memory of the container, or of the machine, in bytes. */
export function memoryBytes(): number {
  const constrained = process.constrainedMemory();
  return constrained > 0 ? Math.min(constrained, totalmem()) : totalmem();
}

/** The limits of a directory, which need not exist yet. `isMemory`: its disk is known to be memory. */
export function diskLimitsOf(directory: string, isMemory: boolean): DiskLimits {
  return isMemory || isInMemory(directory) ? toMemoryLimits(memoryBytes()) : DISK_LIMITS;
}

export function toMemoryLimits(bytes: number): Required<DiskLimits> {
  const totalBytes = Math.floor(bytes * TOTAL_SHARE);
  const workspaceBytes = Math.min(DISK_LIMITS.workspaceBytes, Math.floor(totalBytes * WORKSPACE_SHARE));
  return { ...DISK_LIMITS, totalBytes, workspaceBytes, checkMs: CHECK_MS };
}

function isInMemory(directory: string): boolean {
  try {
    return MEMORY_TYPES.has(statfsSync(directory).type);
  } catch {
    const parent = dirname(directory);
    return parent !== directory && isInMemory(parent);
  }
}
