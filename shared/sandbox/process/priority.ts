// Gives processes a lower processor priority than the gateway: by nice value, and by session where the scheduler shares
// among sessions (autogroup).
import { readFile, writeFile } from 'node:fs/promises';
import { setPriority } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';

const GROUP_TRIES = 30;
const GROUP_PAUSE_MS = 100;
const SESSION_PAUSE_MS = 5;

/** The process, its children and its session, once it leads its own. Never throws: it may have ended already. */
export async function lowerSession(pid: number, nice: number): Promise<void> {
  try {
    setPriority(pid, nice);
    const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'latin1').catch(() => '');
    for (const child of children.split(' ').filter((text) => text !== '')) setPriority(Number(child), nice);
    for (let left = GROUP_TRIES; left > 0; left--) {
      const stat = await readFile(`/proc/${pid}/stat`, 'latin1');
      // Fields after the name: state, parent, group, session. Until it has a session of its own, it is in the
      // gateway's.
      const session = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[3];
      if (session === String(pid) && (await lowerGroup(pid, nice))) return;
      await pause(session === String(pid) ? GROUP_PAUSE_MS : SESSION_PAUSE_MS, undefined, { ref: false });
    }
  } catch {
    // It has ended already.
  }
}

/** Without root, the kernel allows one change in 100 ms on the whole machine. */
async function lowerGroup(pid: number, nice: number): Promise<boolean> {
  try {
    await writeFile(`/proc/${pid}/autogroup`, String(nice));
    return true;
  } catch (error) {
    // Any error but "try again": the machine has no such groups.
    return !(error instanceof Error && 'code' in error && error.code === 'EAGAIN');
  }
}
