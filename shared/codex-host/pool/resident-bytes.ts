// The memory of the processes of an app-server.
import { readFile } from 'node:fs/promises';

/** Resident memory of a process and all its descendants, as Linux counts; 0 where it cannot be read. */
export async function residentBytes(pid: number): Promise<number> {
  try {
    const [status, children] = await Promise.all([
      readFile(`/proc/${pid}/status`, 'utf8'),
      readFile(`/proc/${pid}/task/${pid}/children`, 'utf8'),
    ]);
    const own = Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024;
    const below = await Promise.all(
      children
        .split(' ')
        .filter(Boolean)
        .map((child) => residentBytes(Number(child))),
    );
    return below.reduce((sum, bytes) => sum + bytes, own);
  } catch {
    return 0;
  }
}
