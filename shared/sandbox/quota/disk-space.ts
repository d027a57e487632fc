// The free space of the disk with the workspaces, and the size of every workspace, which counts where the disk is
// memory and all workspaces share a limit (memory-disk.ts).
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { DiskLimits } from '../limits.ts';
import type { UsageMeter } from './disk-usage.ts';
import { type Free, freeSpace } from './free-space.ts';

export interface DiskSpace {
  read(): Promise<Free>;
  /** The last value, if it is not older than it may be for a running process; undefined near the reserve. */
  recent(): Free | undefined;
  /** Measures the workspaces that an earlier process has left, once: they count before their owners use them again. */
  countPresent(): Promise<void>;
  /** The size of the workspace with this home. */
  setSize(home: string, bytes: number): void;
  forget(home: string): void;
}

export function createDiskSpace(directory: string, limits: DiskLimits, meter: UsageMeter): DiskSpace {
  /** Bytes of every workspace, by its home. */
  const sizes = new Map<string, number>();
  let last: { readonly free: Free; readonly atMs: number } | undefined;
  let counted: Promise<void> | undefined;

  const countAll = async (): Promise<void> => {
    if (limits.totalBytes === undefined) return;
    const names = await readdir(directory).catch(() => []);
    await Promise.all(
      names.map(async (name) => {
        const { bytes } = await meter.measure([join(directory, name)], 2 * limits.workspaceEntries);
        const home = join(directory, name, 'home');
        if (!sizes.has(home)) sizes.set(home, bytes);
      }),
    );
  };

  return {
    async read() {
      const used = limits.totalBytes === undefined ? 0 : [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
      const free = await freeSpace(directory, limits, used);
      last = { free, atMs: performance.now() };
      return free;
    },
    recent() {
      if (last === undefined || last.free.isNear) return undefined;
      return performance.now() - last.atMs < limits.checkMs ? last.free : undefined;
    },
    countPresent() {
      counted ??= countAll();
      return counted;
    },
    setSize: (home, bytes) => void sizes.set(home, bytes),
    forget: (home) => void sizes.delete(home),
  };
}
