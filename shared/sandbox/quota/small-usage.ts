// Measures directories with few entries in this thread, which takes less time than a message to the worker thread.
// After most commands, there is little to measure.
import { type Dirent, lstatSync, readdirSync } from 'node:fs';

export interface Usage {
  /** Size of the blocks on the disk. A file with several names (hard links) counts once. */
  readonly bytes: number;
  readonly entries: number;
  /** False: there are more entries than `entriesMax`, or an entry cannot be read. */
  readonly isComplete: boolean;
}

const ENTRIES_MAX = 32;
/** A directory that had many entries may be slow to read even when it is empty. */
const DIRECTORY_BYTES_MAX = 4096;

/** Measures like UsageMeter.measure. Undefined: there are more than ENTRIES_MAX entries, or an entry cannot be read. */
export function measureSmall(paths: readonly string[]): Usage | undefined {
  const left = paths.map((path) => Buffer.from(path));
  let entries = 0;
  let bytes = 0;
  try {
    for (let path = left.pop(); path !== undefined; path = left.pop()) {
      const found = list(path);
      if (found === undefined || entries + found.length > ENTRIES_MAX) return undefined;
      entries += found.length;
      for (const { name } of found) {
        const below = Buffer.concat([path, Buffer.from('/'), name]);
        const stats = lstatSync(below, { throwIfNoEntry: false });
        if (stats === undefined) continue;
        const isDirectory = stats.isDirectory();
        bytes += (stats.blocks * 512) / (isDirectory ? 1 : Math.max(1, stats.nlink));
        if (isDirectory) left.push(below);
      }
    }
  } catch {
    return undefined;
  }
  return { bytes, entries, isComplete: true };
}

/** Lists a directory; one that does not exist counts as empty. Undefined: it may have many entries. */
function list(path: Buffer): Dirent<Buffer>[] | undefined {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return [];
  if (!stats.isDirectory() || stats.size > DIRECTORY_BYTES_MAX) return undefined;
  return readdirSync(path, { encoding: 'buffer', withFileTypes: true });
}
