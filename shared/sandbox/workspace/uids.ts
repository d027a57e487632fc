// Assigns a uid to each workspace if the gateway runs as root. No two workspaces share a uid. A workspace's uid is
// stored as the owner of its directory `home`, so it is the same after a restart.
import type { Dirent } from 'node:fs';
import { lchown, lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { RpcError } from '../../errors.ts';

/** The kernel limits processes per uid, except those of root. Common systems do not use this range of uids. */
const UID_BASE = 20_000;
const UID_SPAN = 40_000;

/** The first and the last that an owner can get. */
export const OWNERS_UIDS = [UID_BASE, UID_BASE + UID_SPAN - 1] as const;

/** Whether it is one of those that owners get. */
export function isOwnersUid(uid: number): boolean {
  return uid >= UID_BASE && uid < UID_BASE + UID_SPAN;
}

export interface Uids {
  /**
   * Returns the uid of the workspace directory `name`. A directory without a uid gets the first free one, starting at
   * `hash`. Throws RpcError `unavailable` when none is free.
   */
  of(name: string, hash: number): Promise<number>;
}

/** `base` contains the workspace directories, whose names match `pattern`. */
export function createUids(base: string, pattern: RegExp, span: number = UID_SPAN): Uids {
  const byName = new Map<string, number>();
  const taken = new Set<number>();
  let read: Promise<void> | undefined;

  return {
    async of(name, hash) {
      read ??= readAll().catch((error: unknown) => {
        read = undefined;
        throw error;
      });
      await read;
      const uid = byName.get(name) ?? findFree(hash);
      take(name, uid);
      return uid;
    },
  };

  function take(name: string, uid: number): void {
    byName.set(name, uid);
    taken.add(uid);
  }

  function findFree(hash: number): number {
    for (let step = 0; step < span; step++) {
      const uid = UID_BASE + ((hash + step) % span);
      if (!taken.has(uid)) return uid;
    }
    throw new RpcError('unavailable', { message: 'There are too many workspaces on this machine' });
  }

  /** Directories can share a uid, because older versions derived it from a hash. The first one keeps it. */
  async function readAll(): Promise<void> {
    const entries = await readdir(base).catch(() => []);
    const names = entries.filter((name) => pattern.test(name)).toSorted();
    const uids = await Promise.all(names.map((name) => uidOf(join(base, name, 'home'))));
    for (const [index, name] of names.entries()) {
      const uid = uids[index];
      if (uid === undefined || uid < UID_BASE || uid >= UID_BASE + span || taken.has(uid)) continue;
      take(name, uid);
    }
  }
}

/**
 * Makes `uid` the owner of a directory and of its contents. The directory itself comes last, because its owner records
 * that all is done.
 */
export async function giveTo(uid: number, directory: string): Promise<void> {
  if ((await lstat(directory)).uid === uid) return;
  await giveContents(uid, directory);
  await lchown(directory, uid, uid);
}

async function giveContents(uid: number, directory: string): Promise<void> {
  const entries: Dirent[] = await readdir(directory, { withFileTypes: true });
  for (const entry of entries) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) await giveContents(uid, path);
    await lchown(path, uid, uid);
  }
}

async function uidOf(path: string): Promise<number | undefined> {
  try {
    return (await lstat(path)).uid;
  } catch {
    return undefined;
  }
}
