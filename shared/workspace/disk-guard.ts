// Keeps workspaces within their share of the disk. The kernel bounds one file (RLIMIT_FSIZE) but not a directory: while commands run, the
// free space is watched; when it shrinks, workspaces in use are measured, and what runs in one that is too big is killed. A workspace
// that is too big can still be cleaned up: its commands may delete, but not write.
import { lstat, opendir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Workspace } from './workspaces.ts';

export interface DiskLimits {
  /** Blocks on disk of one workspace. */
  readonly workspaceBytes: number;
  /** Files and directories of one workspace. */
  readonly workspaceEntries: number;
  /** Free space of the disk below which every workspace in use is measured against a tenth of its share. */
  readonly reserveBytes: number;
  readonly checkMs: number;
}

export const DISK_LIMITS: DiskLimits = {
  workspaceBytes: 2 ** 30,
  workspaceEntries: 100_000,
  reserveBytes: 512 << 20,
  checkMs: 500,
};

/** Space or inodes lost since the last measurement that make another one worth its cost. */
const LOST_SHARE = 8;

export interface DiskGuard {
  /** Whether the workspace may be written to; measures again what was too big the last time. */
  mayWrite(workspace: Workspace): Promise<boolean>;
  /** Watches while something runs; `kill` ends it, unless it may only delete. Call the result when it has ended. */
  watch(workspace: Workspace, kill: () => void): () => void;
}

interface Watched {
  readonly workspace: Workspace;
  /** False: it was started to clean up, and can make nothing but empty files. */
  readonly mayWrite: boolean;
  readonly kill: () => void;
}

export function createDiskGuard(directory: string, limits: DiskLimits = DISK_LIMITS): DiskGuard {
  const watched = new Set<Watched>();
  const full = new Set<string>();
  let measuredFree: { readonly bytes: number; readonly entries: number } | undefined;
  let timer: NodeJS.Timeout | undefined;
  let isChecking = false;

  return {
    async mayWrite(workspace) {
      if (!full.has(workspace.home)) return true;
      return !(await isFull(workspace, limits.workspaceBytes));
    },
    watch(workspace, kill) {
      const entry = { workspace, mayWrite: !full.has(workspace.home), kill };
      watched.add(entry);
      timer ??= setInterval(() => void check(), limits.checkMs);
      return () => {
        watched.delete(entry);
        if (watched.size > 0) return;
        clearInterval(timer);
        timer = undefined;
        measuredFree = undefined;
      };
    },
  };

  async function check(): Promise<void> {
    if (isChecking) return;
    isChecking = true;
    try {
      const { bavail, bsize, ffree } = await statfs(directory);
      const free = { bytes: bavail * bsize, entries: ffree };
      const isLow = free.bytes < limits.reserveBytes;
      const lost =
        measuredFree === undefined ||
        measuredFree.bytes - free.bytes > limits.workspaceBytes / LOST_SHARE ||
        measuredFree.entries - free.entries > limits.workspaceEntries / LOST_SHARE;
      if (!isLow && !lost) return;
      measuredFree = free;
      await measureAll(isLow ? limits.workspaceBytes / 10 : limits.workspaceBytes);
    } catch {
      // Free space that cannot be told is looked at again at the next check.
    } finally {
      isChecking = false;
    }
  }

  async function measureAll(bytesMax: number): Promise<void> {
    const judged = new Map<string, boolean>();
    for (const { workspace, mayWrite, kill } of watched) {
      const known = judged.get(workspace.home) ?? (await isFull(workspace, bytesMax));
      judged.set(workspace.home, known);
      if (known && mayWrite) kill();
    }
  }

  async function isFull(workspace: Workspace, bytesMax: number): Promise<boolean> {
    const left = { bytes: bytesMax, entries: limits.workspaceEntries };
    const fits = (await fitsIn(workspace.home, left)) && (await fitsIn(workspace.tmp, left));
    if (fits) full.delete(workspace.home);
    else full.add(workspace.home);
    return !fits;
  }
}

/** Counts down; never follows a link. A directory that cannot be read counts as too big. */
async function fitsIn(directory: string, left: { bytes: number; entries: number }): Promise<boolean> {
  try {
    for await (const entry of await opendir(directory)) {
      const path = join(directory, entry.name);
      left.entries--;
      left.bytes -= await sizeOf(path);
      if (left.entries < 0 || left.bytes < 0) return false;
      if (entry.isDirectory() && !(await fitsIn(path, left))) return false;
    }
    return true;
  } catch (error) {
    return isGone(error);
  }
}

async function sizeOf(path: string): Promise<number> {
  try {
    const { blocks } = await lstat(path);
    return blocks * 512;
  } catch (error) {
    if (isGone(error)) return 0;
    throw error;
  }
}

function isGone(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
