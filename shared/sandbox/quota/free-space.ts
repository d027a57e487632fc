// The free space of the disk that holds the workspaces, and what follows for the share that each of them may have.
import { statfs } from 'node:fs/promises';
import type { DiskLimits } from './limits.ts';

export interface Free {
  readonly bytes: number;
  readonly entries: number;
  /** Share of the limit that a workspace may have at this fill level of the disk. */
  readonly share: number;
  /** Less than NEAR_RESERVES times the reserve is left. */
  readonly isNear: boolean;
}

/** With less free space than this many times the reserve, checks are more frequent. */
const NEAR_RESERVES = 4;

/** A failure to read the free space stops no command: when space runs out, the commands themselves get the error. */
export async function freeSpace(directory: string, { reserveBytes }: DiskLimits): Promise<Free> {
  try {
    const { blocks, bavail, bsize, ffree } = await statfs(directory);
    const reserve = Math.min(reserveBytes, (blocks * bsize) / 20);
    const bytes = bavail * bsize;
    const share = bytes >= reserve ? 1 : bytes >= reserve / 2 ? 1 / 10 : bytes >= reserve / 8 ? 1 / 100 : 0;
    return { bytes, entries: ffree, share, isNear: bytes < reserve * NEAR_RESERVES };
  } catch {
    return { bytes: 0, entries: 0, share: 1, isNear: false };
  }
}

/** Whether more than this share of a workspace's limits has been used up between the two. */
export function hasLost(before: Free, now: Free, share: number, limits: DiskLimits): boolean {
  const { workspaceBytes, workspaceEntries } = limits;
  return before.bytes - now.bytes > workspaceBytes * share || before.entries - now.entries > workspaceEntries * share;
}
