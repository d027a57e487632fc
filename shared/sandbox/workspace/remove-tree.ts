// Removes a directory that programs of a caller have filled, in which no process runs any more.
import { chmod, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** Removes also directories without permission to write. Must not run while a process can change the tree. */
export async function removeTree(directory: string): Promise<void> {
  try {
    await rm(directory, { recursive: true, force: true });
  } catch {
    // Another user than root needs the rights of a directory to empty it.
    await allow(directory);
    await rm(directory, { recursive: true, force: true });
  }
}

async function allow(directory: string): Promise<void> {
  await chmod(directory, 0o700);
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) await allow(join(directory, entry.name));
  }
}
