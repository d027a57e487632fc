// A real sandbox on a directory of its own, and ways to look at the machine from outside it.
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { createBubblewrapSandbox } from '../../../shared/workspace/bubblewrap.ts';
import type { DiskLimits } from '../../../shared/workspace/disk-guard.ts';
import type { RunOptions, RunResult, Sandbox } from '../../../shared/workspace/sandbox.ts';

export interface Scene {
  readonly sandbox: Sandbox;
  /** Stands for the data directory; the workspaces are in it. */
  readonly directory: string;
  sh(script: string, options?: Partial<RunOptions> & { readonly keyId?: string }): Promise<RunResult>;
}

/** Removed after the suite. */
export async function createScene(
  disk?: DiskLimits,
  ownerMemoryBytes?: number,
  path = process.env.PATH ?? '',
): Promise<Scene> {
  const directory = await mkdtemp(join(tmpdir(), 'sandbox-'));
  const sandbox = createBubblewrapSandbox({
    directory: join(directory, 'workspaces'),
    path,
    ...(disk && { disk }),
    ...(ownerMemoryBytes !== undefined && { ownerMemoryBytes }),
  });
  afterAll(async () => {
    await sandbox.close();
    await rm(directory, { recursive: true, force: true });
  });
  return {
    sandbox,
    directory,
    sh(script, { keyId = 'a', ...options } = {}) {
      return sandbox.run(
        { keyId, argv: ['/bin/sh', '-c', script] },
        { signal: new AbortController().signal, timeoutMs: 30_000, outputBytesMax: 1 << 20, ...options },
      );
    },
  };
}

/** Command lines of the machine's processes that hold the text. */
export async function processesWith(text: string): Promise<string[]> {
  return (await lookFor(text)).map(({ line }) => line);
}

/** Effective uids of the machine's processes whose command line holds the text. */
export async function ownersOf(text: string): Promise<number[]> {
  const found = await lookFor(text);
  const statuses = await Promise.all(found.map(({ pid }) => readFile(`/proc/${pid}/status`, 'utf8')));
  return statuses.map((status) => Number(/^Uid:\s+\d+\s+(\d+)/m.exec(status)?.[1]));
}

async function lookFor(text: string): Promise<{ readonly pid: string; readonly line: string }[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name) && name !== String(process.pid));
  const all = await Promise.all(
    pids.map(async (pid) => ({ pid, line: await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '') })),
  );
  return all.filter(({ line }) => line.includes(text));
}

/** Every name, link target and byte below a directory, as one hash. */
export async function hashTree(directory: string): Promise<string> {
  const hash = createHash('sha256');
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const paths = entries.map((entry) => ({ entry, path: join(entry.parentPath, entry.name) }));
  for (const { entry, path } of paths.sort((a, b) => (a.path < b.path ? -1 : 1))) {
    hash.update(`${path}\0`);
    if (entry.isFile()) hash.update(await readFile(path));
    else if (entry.isSymbolicLink()) hash.update(await readlink(path));
  }
  return hash.digest('hex');
}
