// The control groups of this gateway below the group in which it was started: a base group, which limits all owners
// together, with a group per owner. Other groups of the machine are not changed. Supports the memory controllers of
// cgroups version 1 and 2 (cgroups(7)).
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { isLeftOver, runPrefix } from '../workspace/run-mark.ts';
import { memoryBytes } from './memory-disk.ts';

/** Maximum memory of the processes of one owner together. */
export const OWNER_BYTES_MAX = 2 ** 31;
/** What is reserved for the gateway and the rest of the machine: at least these bytes, and at least this share. */
const RESERVED_BYTES_MIN = 256 << 20;
const RESERVED_SHARE = 1 / 4;
/** The share of the memory of all owners that one owner may use. */
const OWNER_SHARE = 3 / 4;
/** Prefix of the names of groups. */
const PREFIX = 'codex-gateway';

/** The memory group in which this process is. */
export interface LocatedGroup {
  readonly version: 1 | 2;
  readonly directory: string;
}

export interface MemoryTree extends LocatedGroup {
  /** The parent of the owners' groups. */
  readonly base: string;
  /** The group of the gateway's own processes. */
  readonly gatewayGroup: string;
  readonly ownerBytes: number;
}

/** Creates the groups, or returns why they cannot be created. */
export function openMemoryTree(ownerBytesMax: number): MemoryTree | { readonly missing: string } {
  if (process.platform !== 'linux') return { missing: 'control groups need Linux' };
  try {
    const located = locateMemoryGroup(
      readFileSync('/proc/self/mountinfo', 'utf8'),
      readFileSync('/proc/self/cgroup', 'utf8'),
    );
    if (located === undefined) return { missing: 'no memory controller is mounted' };
    return createMemoryTree(located, ownerBytesMax);
  } catch (error) {
    return { missing: error instanceof Error ? error.message : String(error) };
  }
}

/**
 * Finds the directory of the memory group of this process; undefined: no memory controller is mounted. Parses the
 * contents of /proc/self/mountinfo (proc(5)) and /proc/self/cgroup (cgroups(7)), for example
 *
 *     36 32 0:33 /docker/1f /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
 *     4:memory:/docker/1f/gateway
 *
 * The mount shows the hierarchy from /docker/1f on, so the directory is /sys/fs/cgroup/memory/gateway.
 */
export function locateMemoryGroup(mountinfo: string, cgroup: string): LocatedGroup | undefined {
  const groups = cgroup.split('\n').map((line) => {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    return { controllers: controllers?.split(',') ?? [], path };
  });
  const mounts = mountinfo.split('\n').map(parseMount);
  const directoryOf = (path: string | undefined, type: string, option?: string): string | undefined => {
    const mount = mounts.find((each) => each.type === type && (option === undefined || each.options.includes(option)));
    if (path === undefined || mount === undefined) return undefined;
    const below = relative(mount.root, path);
    // The group of this process is outside of the mounted part of the hierarchy.
    return below.startsWith('..') ? undefined : join(mount.point, below);
  };
  const ofVersion1 = groups.find(({ controllers }) => controllers.includes('memory'));
  if (ofVersion1 !== undefined) {
    const directory = directoryOf(ofVersion1.path, 'cgroup', 'memory');
    return directory === undefined ? undefined : { version: 1, directory };
  }
  // The line of version 2 has an empty list of controllers: `0::/path`.
  const ofVersion2 = groups.find(({ controllers: [first] }) => first === '');
  const directory = directoryOf(ofVersion2?.path, 'cgroup2');
  return directory === undefined ? undefined : { version: 2, directory };
}

function parseMount(line: string) {
  const [before = '', after = ''] = line.split(' - ');
  const [, , , root = '', point = ''] = before.split(' ');
  const [type = '', , options = ''] = after.split(' ');
  return { root, point, type, options: options.split(',') };
}

/** Creates the base group with the limit of all owners. Throws the error of the kernel; nothing is left then. */
export function createMemoryTree(located: LocatedGroup, ownerBytesMax: number = OWNER_BYTES_MAX): MemoryTree {
  const { version, directory } = located;
  removeLeftovers(directory);
  const total = memoryBytes();
  const allBytes = total - Math.max(RESERVED_BYTES_MIN, total * RESERVED_SHARE);
  const ownerBytes = Math.floor(Math.min(ownerBytesMax, allBytes * OWNER_SHARE));
  const base = mkdtempSync(join(directory, runPrefix(PREFIX)));
  const gatewayGroup = version === 1 ? directory : `${base}-home`;
  const tree: MemoryTree = { ...located, base, gatewayGroup, ownerBytes };
  try {
    if (version === 2) moveIntoGatewayGroup(tree);
    setLimit(version, base, Math.floor(allBytes));
    if (version === 2) writeFileSync(join(base, 'cgroup.subtree_control'), '+memory');
    return tree;
  } catch (error) {
    tryTo(() => rmdirSync(base));
    if (version === 2) restoreOriginalGroup(tree);
    throw error;
  }
}

/**
 * Moves the gateway to a child of its group. In version 2, a group contains either processes, or children with
 * controllers.
 */
function moveIntoGatewayGroup({ directory, gatewayGroup }: MemoryTree): void {
  mkdirSync(gatewayGroup);
  writeFileSync(join(gatewayGroup, 'cgroup.procs'), String(process.pid));
  writeFileSync(join(directory, 'cgroup.subtree_control'), '+memory');
}

/** Moves the gateway back to the group in which it was started. */
export function restoreOriginalGroup({ directory, gatewayGroup }: MemoryTree): void {
  tryTo(() => writeFileSync(join(directory, 'cgroup.subtree_control'), '-memory'));
  tryTo(() => writeFileSync(join(directory, 'cgroup.procs'), String(process.pid)));
  tryTo(() => rmdirSync(gatewayGroup));
}

export function setLimit(version: 1 | 2, path: string, bytes: number): void {
  writeFileSync(join(path, version === 1 ? 'memory.limit_in_bytes' : 'memory.max'), String(bytes));
  // Without a limit of swap, memory over the limit is swapped first. Not every kernel counts swap.
  const [file, value] = version === 1 ? ['memory.memsw.limit_in_bytes', String(bytes)] : ['memory.swap.max', '0'];
  tryTo(() => writeFileSync(join(path, file), value, { flag: 'r+' }));
}

export function readOomKills(version: 1 | 2, path: string): number {
  try {
    const text = readFileSync(join(path, version === 1 ? 'memory.oom_control' : 'memory.events'), 'latin1');
    return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/** Removes the groups of gateways that were killed; those of running gateways stay. */
function removeLeftovers(directory: string): void {
  for (const name of readdirSync(directory)) {
    if (isLeftOver(name, PREFIX)) removeTree(join(directory, name));
  }
}

/**
 * Removes a group and its children. The kernel removes the files of a group with its directory. False: a group still
 * contains a process.
 */
export function removeTree(path: string): boolean {
  tryTo(() => {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (entry.isDirectory()) tryTo(() => rmdirSync(join(path, entry.name)));
    }
  });
  return tryTo(() => rmdirSync(path));
}

/** Returns whether `work` succeeded. */
export function tryTo(work: () => void): boolean {
  try {
    work();
    return true;
  } catch {
    return false;
  }
}
