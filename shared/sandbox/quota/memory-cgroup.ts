// Limits the memory of all of an owner's processes together, by the kernel's control groups: unlike RLIMIT_DATA they
// count shared memory (memfd, /dev/shm, files on a tmpfs). One group per owner, below the group that the gateway itself
// was started in; other groups of the machine are not changed. Where the gateway may not make groups there, none are
// used.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join, relative } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Cgroup } from '../process/spawn-messages.ts';

/**
 * Upper bound of the memory of one owner's processes together, and what is reserved for the gateway and the rest of the
 * machine.
 */
const OWNER_BYTES_MAX = 2 ** 31;
const KEPT_BYTES_MIN = 256 << 20;
const KEPT_SHARE = 1 / 4;
const OWNER_SHARE = 3 / 4;
/** An owner's group stays this long after its last process, so that successive commands need not create it again. */
const IDLE_MS = 2_000;
const REMOVE_MS = 200;
const CLOSE_TRIES = 40;
const CLOSE_PAUSE_MS = 10;

export interface OwnerGroup {
  readonly cgroup: Cgroup;
  readonly bytesMax: number;
  /** How many processes of the owner the kernel has killed for lack of memory. */
  oomKills(): number;
  /** Call it once, when the process that acquired it has ended. */
  release(): void;
}

export interface MemoryGroups {
  /** The group of an owner. Undefined where there can be none. */
  acquire(keyId: string): OwnerGroup | undefined;
  /** Why there are no groups; undefined where there are. */
  readonly missing: string | undefined;
  /** Removes all groups, once the processes in them have ended. */
  close(): Promise<void>;
}

/** The group of this process in the memory controller. */
export interface Located {
  readonly version: 1 | 2;
  readonly directory: string;
}

interface Tree extends Located {
  /** Owners' groups are below it. */
  readonly base: string;
  /** The group of processes that belong to no owner. */
  readonly home: string;
  readonly ownerBytes: number;
}

interface Entry {
  readonly path: string;
  users: number;
  timer: NodeJS.Timeout | undefined;
}

/**
 * `leave` makes the process that starts others leave a group, if in it: a group with a process in it cannot be removed.
 */
export function createMemoryGroups(leave: (path: string) => void, ownerBytesMax = OWNER_BYTES_MAX): MemoryGroups {
  const entries = new Map<string, Entry>();
  let tree: Tree | { readonly missing: string } | undefined;
  let lastNumber = 0;

  const open = () => {
    tree ??= openTree(ownerBytesMax);
    return tree;
  };

  return {
    get missing() {
      const opened = open();
      return 'missing' in opened ? opened.missing : undefined;
    },
    acquire(keyId) {
      const opened = open();
      if ('missing' in opened) return undefined;
      const entry = entries.get(keyId) ?? make(opened, keyId);
      clearTimeout(entry.timer);
      entry.users++;
      return {
        cgroup: { path: entry.path, home: opened.home },
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
        leave(path);
      }
      for (let left = CLOSE_TRIES; left > 0 && !removeTree(tree.base); left--) await pause(CLOSE_PAUSE_MS);
      if (tree.home !== tree.directory) leaveHome(tree);
    },
  };

  function make({ base, version, ownerBytes }: Tree, keyId: string): Entry {
    const path = join(base, `owner-${++lastNumber}`);
    mkdirSync(path);
    setLimit(version, path, ownerBytes);
    const entry = { path, users: 0, timer: undefined };
    entries.set(keyId, entry);
    return entry;
  }

  function remove(keyId: string, entry: Entry): void {
    leave(entry.path);
    const isRemoved = tryTo(() => rmdirSync(entry.path));
    if (isRemoved) entries.delete(keyId);
    // The helper leaves asynchronously.
    else entry.timer = setTimeout(() => remove(keyId, entry), REMOVE_MS).unref();
  }
}

/**
 * Reads the contents of /proc/self/mountinfo and /proc/self/cgroup (proc(5), cgroups(7)); undefined: no memory
 * controller is mounted.
 */
export function locateMemoryGroup(mountinfo: string, cgroup: string): Located | undefined {
  const groups = cgroup.split('\n').map((line) => /^\d+:([^:]*):(.*)$/.exec(line));
  const mounts = mountinfo.split('\n').map((line) => {
    const [before = '', after = ''] = line.split(' - ');
    const [, , , root = '', point = ''] = before.split(' ');
    const [type = '', , options = ''] = after.split(' ');
    return { root, point, type, options: options.split(',') };
  });
  const find = (path: string | undefined, type: string, option?: string): string | undefined => {
    const mount = mounts.find((each) => each.type === type && (option === undefined || each.options.includes(option)));
    if (path === undefined || mount === undefined) return undefined;
    const below = relative(mount.root, path);
    // Mounted from a group below: this process is outside of the visible tree.
    return below.startsWith('..') ? undefined : join(mount.point, below);
  };
  const first = groups.find((group) => group?.[1]?.split(',').includes('memory'))?.[2];
  if (first !== undefined) {
    const directory = find(first, 'cgroup', 'memory');
    return directory === undefined ? undefined : { version: 1, directory };
  }
  const directory = find(groups.find((group) => group?.[1] === '')?.[2], 'cgroup2');
  return directory === undefined ? undefined : { version: 2, directory };
}

function openTree(ownerBytesMax: number): Tree | { readonly missing: string } {
  if (process.platform !== 'linux') return { missing: 'control groups need Linux' };
  try {
    const located = locateMemoryGroup(
      readFileSync('/proc/self/mountinfo', 'utf8'),
      readFileSync('/proc/self/cgroup', 'utf8'),
    );
    if (located === undefined) return { missing: 'no memory controller is mounted' };
    return makeTree(located, ownerBytesMax);
  } catch (error) {
    return { missing: error instanceof Error ? error.message : String(error) };
  }
}

/** Creates the groups' parent with the limit of all of them. Throws the kernel's error; then nothing is left. */
export function makeTree(located: Located, ownerBytesMax = OWNER_BYTES_MAX): Tree {
  const { version, directory } = located;
  removeLeftovers(directory);
  const constrained = process.constrainedMemory();
  const total = constrained > 0 ? Math.min(constrained, totalmem()) : totalmem();
  const allBytes = total - Math.max(KEPT_BYTES_MIN, total * KEPT_SHARE);
  const ownerBytes = Math.floor(Math.min(ownerBytesMax, allBytes * OWNER_SHARE));
  const base = mkdtempSync(join(directory, `codex-gateway-${process.pid}-${startTimeOf(process.pid)}-`));
  const tree: Tree = { ...located, base, home: version === 1 ? directory : `${base}-home`, ownerBytes };
  try {
    if (version === 2) enterHome(tree);
    setLimit(version, base, Math.floor(allBytes));
    if (version === 2) writeFileSync(join(base, 'cgroup.subtree_control'), '+memory');
    return tree;
  } catch (error) {
    tryTo(() => rmdirSync(base));
    if (version === 2) leaveHome(tree);
    throw error;
  }
}

/**
 * In version 2 a group has either processes or children with controllers: the gateway moves to a child of its own
 * group.
 */
function enterHome({ directory, home }: Tree): void {
  mkdirSync(home);
  writeFileSync(join(home, 'cgroup.procs'), String(process.pid));
  writeFileSync(join(directory, 'cgroup.subtree_control'), '+memory');
}

function leaveHome({ directory, home }: Tree): void {
  tryTo(() => writeFileSync(join(directory, 'cgroup.subtree_control'), '-memory'));
  tryTo(() => writeFileSync(join(directory, 'cgroup.procs'), String(process.pid)));
  tryTo(() => rmdirSync(home));
}

function setLimit(version: 1 | 2, path: string, bytes: number): void {
  writeFileSync(join(path, version === 1 ? 'memory.limit_in_bytes' : 'memory.max'), String(bytes));
  // Without this, memory over the limit is swapped first. Not every kernel counts swap.
  const [file, value] = version === 1 ? ['memory.memsw.limit_in_bytes', String(bytes)] : ['memory.swap.max', '0'];
  tryTo(() => writeFileSync(join(path, file), value, { flag: 'r+' }));
}

function readOomKills(version: 1 | 2, path: string): number {
  try {
    const text = readFileSync(join(path, version === 1 ? 'memory.oom_control' : 'memory.events'), 'latin1');
    return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/** Removes groups of gateways that were killed; those of running gateways stay. */
function removeLeftovers(directory: string): void {
  for (const name of readdirSync(directory)) {
    const [, pid, startTime] = /^codex-gateway-(\d+)-(\d+)-\w+(?:-home)?$/.exec(name) ?? [];
    if (pid !== undefined && startTimeOf(Number(pid)) !== startTime) removeTree(join(directory, name));
  }
}

/** A group's files are not removed one by one: the kernel removes them with it. A group with a process in it stays. */
function removeTree(path: string): boolean {
  tryTo(() => {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (entry.isDirectory()) tryTo(() => rmdirSync(join(path, entry.name)));
    }
  });
  return tryTo(() => rmdirSync(path));
}

/**
 * Clock ticks between the start of the machine and that of the process (proc(5)); with the pid it identifies a process
 * uniquely.
 */
function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

function tryTo(work: () => void): boolean {
  try {
    work();
    return true;
  } catch {
    return false;
  }
}
