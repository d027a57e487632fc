// Reads the free space of the disk with the workspaces, and derives which share of its limit a workspace may use.
import { statfs } from 'node:fs/promises';
import type { DiskLimits } from '../limits.ts';

export interface Free {
  /** Free bytes of the disk, and free entries (inodes). */
  readonly bytes: number;
  readonly entries: number;
  /** The share of its limit that a workspace may use with this much free space. */
  readonly share: number;
  /** Whether less than NEAR_RESERVES times the reserve is free. */
  readonly isNear: boolean;
}

/** With less free space than this many times the reserve, checks are more frequent. */
const NEAR_RESERVES = 4;

/**
 * `usedBytes`: the size of all workspaces together, as last measured. If the free space cannot be read, commands are
 * not restricted; on a full disk they get the error of the kernel.
 */
export async function freeSpace(
  directory: string,
  { reserveBytes, totalBytes = Number.POSITIVE_INFINITY }: DiskLimits,
  usedBytes: number,
): Promise<Free> {
  try {
    const { blocks, bavail, bsize, ffree } = await statfs(directory);
    const reserve = Math.min(reserveBytes, Math.min(blocks * bsize, totalBytes) / 20);
    const bytes = bavail * bsize;
    const left = Math.min(bytes, totalBytes - usedBytes);
    const share = left >= reserve ? 1 : left >= reserve / 2 ? 1 / 10 : left >= reserve / 8 ? 1 / 100 : 0;
    return { bytes, entries: ffree, share, isNear: left < reserve * NEAR_RESERVES };
  } catch {
    return { bytes: 0, entries: 0, share: 1, isNear: false };
  }
}

/** Whether the free space between the two readings has fallen by more than this share of a workspace's limits. */
export function hasLost(before: Free, now: Free, share: number, limits: DiskLimits): boolean {
  const { workspaceBytes, workspaceEntries } = limits;
  return before.bytes - now.bytes > workspaceBytes * share || before.entries - now.entries > workspaceEntries * share;
}
