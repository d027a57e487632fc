// Limits the memory of all processes of one owner (a key) together, by control groups of the kernel. Unlike
// RLIMIT_DATA, they also count shared memory (memfd, /dev/shm, files on a tmpfs). Each owner has a group below that of
// the gateway (memory-tree.ts). If the gateway may not create groups there, none are used.
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Cgroup } from '../spawner/spawn-messages.ts';
import {
  type MemoryTree,
  OWNER_BYTES_MAX,
  openMemoryTree,
  readOomKills,
  removeTree,
  restoreOriginalGroup,
  setLimit,
  tryTo,
} from './memory-tree.ts';

/**
 * How long after its last process an owner's group is removed, so that successive commands need not create it again.
 */
const IDLE_MS = 2_000;
const REMOVE_RETRY_MS = 200;
const CLOSE_TRIES = 40;
const CLOSE_PAUSE_MS = 10;

export interface OwnerGroup {
  readonly cgroup: Cgroup;
  readonly bytesMax: number;
  /** How many processes of the owner the kernel has killed for lack of memory. */
  oomKills(): number;
  /** Call it once, when the process that acquired the group has ended. */
  release(): void;
}

export interface MemoryGroups {
  /** Returns the group of an owner; undefined if there are no groups. */
  acquire(keyId: string): OwnerGroup | undefined;
  /** Why there are no groups; undefined if there are. */
  readonly missing: string | undefined;
  /** Removes all groups after the processes in them have ended. */
  close(): Promise<void>;
}

interface Entry {
  readonly path: string;
  users: number;
  timer: NodeJS.Timeout | undefined;
}

/**
 * `leaveCgroup` moves the helper process that starts others out of a group, because a group that contains a process
 * cannot be removed.
 */
export function createMemoryGroups(
  leaveCgroup: (path: string) => void,
  ownerBytesMax: number = OWNER_BYTES_MAX,
): MemoryGroups {
  const entries = new Map<string, Entry>();
  let tree: MemoryTree | { readonly missing: string } | undefined;
  let lastNumber = 0;

  const openTree = () => {
    tree ??= openMemoryTree(ownerBytesMax);
    return tree;
  };

  return {
    get missing() {
      const opened = openTree();
      return 'missing' in opened ? opened.missing : undefined;
    },
    acquire(keyId) {
      const opened = openTree();
      if ('missing' in opened) return undefined;
      const entry = entries.get(keyId) ?? add(opened, keyId);
      clearTimeout(entry.timer);
      entry.users++;
      return {
        cgroup: { path: entry.path, gatewayGroup: opened.gatewayGroup },
        bytesMax: opened.ownerBytes,
        oomKills: () => readOomKills(opened.version, entry.path),
        release() {
          if (--entry.users === 0) entry.timer = setTimeout(() => remove(keyId, entry), IDLE_MS).unref();
        },
      };
    },
    async close() {
      if (tree === undefined || 'missing' in tree) return;
      for (const { path, timer } of entries.values()) {
        clearTimeout(timer);
        leaveCgroup(path);
      }
      for (let left = CLOSE_TRIES; left > 0 && !removeTree(tree.base); left--) await pause(CLOSE_PAUSE_MS);
      if (tree.gatewayGroup !== tree.directory) restoreOriginalGroup(tree);
    },
  };

  function add({ base, version, ownerBytes }: MemoryTree, keyId: string): Entry {
    const path = join(base, `owner-${++lastNumber}`);
    mkdirSync(path);
    setLimit(version, path, ownerBytes);
    const entry = { path, users: 0, timer: undefined };
    entries.set(keyId, entry);
    return entry;
  }

  function remove(keyId: string, entry: Entry): void {
    leaveCgroup(entry.path);
    const isRemoved = tryTo(() => rmdirSync(entry.path));
    if (isRemoved) entries.delete(keyId);
    // The helper leaves asynchronously.
    else entry.timer = setTimeout(() => remove(keyId, entry), REMOVE_RETRY_MS).unref();
  }
}
