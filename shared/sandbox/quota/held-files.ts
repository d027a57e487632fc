// Measures deleted files that still occupy the disk because processes have them open or mapped. The worker thread of
// disk-usage.ts runs this function from its source text, so it may use nothing from outside its body.

/**
 * Returns the bytes of unlinked files on the disk of the first path that the processes or their descendants have open
 * or mapped.
 */
export type MeasureHeldFiles = (of: { readonly paths: readonly string[]; readonly pids: readonly number[] }) => number;

export function createHeldFileMeter(): MeasureHeldFiles {
  const fs = process.getBuiltinModule('node:fs');

  const list = (path: string): string[] => {
    try {
      return fs.readdirSync(path);
    } catch {
      // The process has ended, or belongs to another user.
      return [];
    }
  };

  const read = (path: string): string => {
    try {
      return fs.readFileSync(path, 'latin1');
    } catch {
      return '';
    }
  };

  /** Formats a device number as in /proc/PID/maps (makedev(3)). */
  const toHex = (device: number): string => {
    const numbers = [(device >> 8) & 0xfff, (device & 0xff) | ((device >>> 12) & 0xfff00)];
    return numbers.map((number) => number.toString(16).padStart(2, '0')).join(':');
  };

  /**
   * Adds the unlinked files of a process and its descendants to `held`, by inode: mapped files with the size of the
   * mapping, open files with their blocks.
   */
  const addHeld = (pid: number, device: number, held: Map<number, number>): void => {
    const children = list(`/proc/${pid}/task`).map((task) => read(`/proc/${pid}/task/${task}/children`));
    for (const child of children.join(' ').split(' ').filter(Boolean)) addHeld(Number(child), device, held);
    for (const line of read(`/proc/${pid}/maps`).split('\n')) {
      const found = /^(\w+)-(\w+) \S+ \S+ (\w+:\w+) (\d+) .*\(deleted\)$/.exec(line);
      const [, from = '', to = '', on = '', inode = ''] = found ?? [];
      if (on !== toHex(device)) continue;
      const bytes = Number.parseInt(to, 16) - Number.parseInt(from, 16);
      held.set(Number(inode), Math.max(bytes, held.get(Number(inode)) ?? 0));
    }
    for (const fd of list(`/proc/${pid}/fd`)) {
      try {
        const stats = fs.statSync(`/proc/${pid}/fd/${fd}`);
        if (stats.isFile() && stats.nlink === 0 && stats.dev === device) held.set(stats.ino, stats.blocks * 512);
      } catch {
        // The descriptor was closed meanwhile.
      }
    }
  };

  return ({ paths, pids }) => {
    const device = fs.statSync(paths[0] ?? '/', { throwIfNoEntry: false })?.dev;
    const held = new Map<number, number>();
    if (device !== undefined) for (const pid of pids) addHeld(pid, device, held);
    return [...held.values()].reduce((sum, bytes) => sum + bytes, 0);
  };
}
