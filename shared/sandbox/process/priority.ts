// Gives processes a lower processor priority than the gateway has: by nice value, and by the nice value of their
// session where the scheduler divides time among sessions (autogroup, sched(7)). Reads and writes files of /proc
// synchronously, because the thread pool takes longer than they do.
import { readFileSync, writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { codeOf } from '../../errors.ts';

const GROUP_TRIES = 30;
const GROUP_PAUSE_MS = 100;
const SESSION_PAUSE_MS = 5;

/**
 * Lowers the process, its children and, when the process has created one, its session. Never throws, because the
 * process may have ended.
 */
export async function lowerSession(pid: number, nice: number): Promise<void> {
  try {
    setPriority(pid, nice);
    for (const child of childrenOf(pid)) setPriority(child, nice);
    for (let left = GROUP_TRIES; left > 0; left--) {
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
      // Fields after the name: state, parent, group, session. Before the process creates a session, it is in that of
      // the gateway, which must not be lowered.
      const session = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[3];
      if (session === String(pid) && lowerGroup(pid, nice)) return;
      await pause(session === String(pid) ? GROUP_PAUSE_MS : SESSION_PAUSE_MS, undefined, { ref: false });
    }
  } catch {
    // The process has ended.
  }
}

function childrenOf(pid: number): number[] {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1');
    return children.split(' ').flatMap((text) => (text === '' ? [] : Number(text)));
  } catch {
    // The kernel does not have this file.
    return [];
  }
}

/** False: try again. Without root, the kernel allows one change per 100 ms on the whole machine. */
function lowerGroup(pid: number, nice: number): boolean {
  try {
    writeFileSync(`/proc/${pid}/autogroup`, String(nice));
    return true;
  } catch (error) {
    // Any other error than "try again" means that the machine has no such groups.
    return codeOf(error) !== 'EAGAIN';
  }
}
