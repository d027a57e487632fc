// Names of directories and control groups that still exist after their process was killed. They contain its pid and
// start time, so that a later process on the machine can remove them.
import { readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { removeTree } from './remove-tree.ts';

/** `PREFIX-PID-STARTTIME-`, to be completed. */
export function runPrefix(prefix: string): string {
  return `${prefix}-${process.pid}-${startTimeOf(process.pid) ?? 0}-`;
}

/** Whether the process that made this name has ended; false for a name without a pid. */
export function isLeftOver(name: string, prefix: string): boolean {
  const [, made, pid, startTime] = /^(.+?)-(\d+)-(\d+)-[\w-]+$/.exec(name) ?? [];
  // Without /proc, it is unknown whether the process has ended.
  if (made !== prefix || startTimeOf(process.pid) === undefined) return false;
  return startTimeOf(Number(pid)) !== startTime;
}

/** Removes directories that processes which have ended made with this prefix. Never rejects. */
export async function removeLeftovers(directory: string, prefix: string): Promise<void> {
  const names = await readdir(directory).catch(() => []);
  const left = names.filter((name) => isLeftOver(name, prefix));
  await Promise.allSettled(left.map((name) => removeTree(join(directory, name))));
}

/**
 * Clock ticks between the start of the machine and that of the process (proc(5)). The pid and this time together
 * identify a process uniquely, because pids are reused.
 */
function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}
