// Reads and writes the file of a thread below the home of an app-server. Codex can write there and is not trusted:
// symbolic links are not followed, so that none leads out of the home.
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { codeOf, RpcError } from '../errors.ts';
import { ROLLOUT_BYTES_MAX, RolloutPath } from './codex-host.ts';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** Without O_NONBLOCK, opening a FIFO would wait for a writer. */
const READ = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const WRITE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/** Returns undefined if the file does not exist or is too large. */
export async function readRolloutFile(home: string, path: string): Promise<Buffer | undefined> {
  return inDirectory(home, path, false, async (file) => {
    const handle = await open(file, READ);
    try {
      const stats = await handle.stat();
      return stats.isFile() && stats.size <= ROLLOUT_BYTES_MAX ? await handle.readFile() : undefined;
    } finally {
      await handle.close();
    }
  }).catch((error: unknown) => {
    if (isFileError(error)) return undefined;
    throw error;
  });
}

/**
 * Throws RpcError `conflict` if the file exists. All users may write to the file, because Codex may run under another
 * uid than the gateway and must be able to append to it.
 */
export async function writeRolloutFile(home: string, path: string, bytes: Uint8Array): Promise<void> {
  if (bytes.byteLength > ROLLOUT_BYTES_MAX) throw new Error('the rollout is too long');
  await inDirectory(home, path, true, async (file) => {
    const handle = await open(file, WRITE, 0o666).catch((cause: unknown) => {
      throw codeOf(cause) === 'EEXIST' ? new RpcError('conflict', { cause }) : cause;
    });
    try {
      await handle.writeFile(bytes);
      await handle.chmod(0o666);
    } finally {
      await handle.close();
    }
  });
}

/**
 * Calls `work` with a path of the file below its open directory, so that a concurrent rename cannot replace the
 * directory. Each directory is opened relative to its parent, never through a symbolic link.
 */
async function inDirectory<T>(
  home: string,
  path: string,
  isCreated: boolean,
  work: (file: string) => Promise<T>,
): Promise<T> {
  const parts = RolloutPath.parse(path).split('/');
  const name = parts.pop() ?? '';
  let directory: FileHandle = await open(home, DIRECTORY);
  try {
    for (const part of parts) {
      const next = `/proc/self/fd/${directory.fd}/${part}`;
      const isNew = isCreated && (await makeDirectory(next));
      const opened = await open(next, DIRECTORY);
      await directory.close();
      directory = opened;
      if (isNew) await directory.chmod(0o777);
    }
    return await work(`/proc/self/fd/${directory.fd}/${name}`);
  } finally {
    await directory.close();
  }
}

/** Creates a directory; returns false if it exists. */
function makeDirectory(path: string): Promise<boolean> {
  return mkdir(path).then(
    () => true,
    (error: unknown) => {
      if (codeOf(error) === 'EEXIST') return false;
      throw error;
    },
  );
}

function isFileError(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error;
}
