// Names of what a process leaves behind when it is killed, so that the next one on the machine can remove it: they
// contain the run of the process that made it.
import { readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { removeTree } from '../remove-tree.ts';

/** `PREFIX-PID-STARTTIME-`, to be completed. */
export function runPrefix(prefix: string): string {
  return `${prefix}-${process.pid}-${startTimeOf(process.pid) ?? 0}-`;
}

/** Whether the process that made this name has ended; false for a name without a run. */
export function isLeftOver(name: string, prefix: string): boolean {
  const [, made, pid, startTime] = /^(.+?)-(\d+)-(\d+)-[\w-]+$/.exec(name) ?? [];
  // Where it cannot be read, no process is known to have ended.
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
