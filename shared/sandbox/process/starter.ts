// Starts bwrap for a key: opens its workspace, checks its disk usage, assigns its memory group, and sets the limits.
import { resolve } from 'node:path';
import { RpcError } from '../../errors.ts';
import type { Toolbox } from '../bubblewrap-command.ts';
import { sandboxUnavailable } from '../commands.ts';
import { createDiskGuard } from '../quota/disk-guard.ts';
import { diskFull, diskNotice, toDeleter, withNotice } from '../quota/disk-notice.ts';
import { DEFAULT_LIMITS, type DiskLimits, LONG_RUNNING_LIMITS } from '../quota/limits.ts';
import type { DiskAccess } from '../quota/measured-workspace.ts';
import { diskLimitsOf } from '../quota/memory-disk.ts';
import { createMemoryGroups, type OwnerGroup } from '../quota/memory-groups.ts';
import { removeTree } from '../remove-tree.ts';
import type { SandboxSpec } from '../sandbox.ts';
import { type SelfTest, selfTest } from '../self-test.ts';
import { createWorkspaces } from '../workspaces.ts';
import { toLaunch } from './launch.ts';
import { withListener } from './listener.ts';
import { mountWorkspaces } from './own-uid.ts';
import { type SandboxProcess, startProcess, tooLong } from './sandbox-process.ts';
import { createSpawner } from './spawner.ts';

export interface BubblewrapOptions {
  /** Directory of all workspaces on this machine; created if it does not exist. */
  readonly directory: string;
  /** Directories in which bwrap is searched, separated as in PATH. */
  readonly path: string;
  /** Whether the bwrap that comes with Codex may be used; default true. */
  readonly bundled?: boolean;
  /** Default: those of the disk (memory-disk.ts). */
  readonly disk?: DiskLimits;
  /** Whether the disk is memory, whatever its type is. */
  readonly isDiskMemory?: boolean;
  /** Maximum memory of all processes of a key together. Default 2 GiB. */
  readonly ownerMemoryBytes?: number;
}

export interface StartOptions {
  readonly isLong: boolean;
  readonly hasStdin: boolean;
  readonly nice: number;
  /** Path of the terminal that is used instead of the streams. */
  readonly tty?: string;
}

export interface Started {
  readonly child: SandboxProcess;
  readonly access: DiskAccess;
  /** Whether the command was killed because its workspace or the disk is full. */
  isKilledForDisk(): boolean;
  /** Messages about the limits that the command reached, appended to its stderr if it failed. */
  notices(): Buffer[];
}

export interface Starter {
  /** The result of the self-test, which runs once. */
  test(): Promise<SelfTest>;
  /** Throws `unavailable` after `close`, and `sandbox_unavailable` if the self-test failed. */
  toolbox(): Promise<Toolbox>;
  /**
   * Throws the errors of `toolbox` and `startProcess`, and `unavailable` for a long-running process in a full
   * workspace.
   */
  start(spec: SandboxSpec, options: StartOptions): Promise<Started>;
  /** As `Sandbox.erase`. */
  erase(keyId: string): Promise<void>;
  /** Why the memory of a key cannot be limited on this machine; undefined: it is limited. */
  readonly memoryLimitMissing: string | undefined;
  /** Kills all processes and waits for their end. */
  close(): Promise<void>;
}

/**
 * Limits of execve(2): the size of one string, and of all arguments and environment variables together, minus what the
 * sandbox adds.
 */
const STRING_BYTES_MAX = (128 << 10) - 1;
const STRINGS_BYTES_MAX = 1900 << 10;

/**
 * Owns what all processes of this sandbox share: the workspaces, the disk guard, the memory groups and the helper
 * process that starts them.
 */
export function createStarter(options: BubblewrapOptions): Starter {
  const isRoot = process.getuid?.() === 0;
  // Absolute, because the helper process has another working directory.
  const directory = resolve(options.directory);
  const workspaces = createWorkspaces(directory, isRoot);
  const disk = createDiskGuard(directory, options.disk ?? diskLimitsOf(directory, options.isDiskMemory === true));
  /** Both with the keys to which they belong. */
  const starting = new Map<Promise<Started>, string>();
  const running = new Map<SandboxProcess, string>();
  const spawner = createSpawner(() => (isRoot ? mountWorkspaces(directory) : []));
  const memory = createMemoryGroups((path) => spawner.leaveCgroup(path), options.ownerMemoryBytes);
  let tested: Promise<SelfTest> | undefined;
  let isClosed = false;

  return {
    get memoryLimitMissing() {
      return memory.missing;
    },
    test,
    toolbox,

    async start(spec, options) {
      const started = start(spec, options);
      starting.set(started, spec.keyId);
      try {
        return await started;
      } finally {
        starting.delete(started);
      }
    },

    async erase(keyId) {
      // Moved first: a process that starts from now on gets new directories. Those of the moved ones must end before
      // root empties these, because a process could put a symbolic link in the place of a directory meanwhile.
      const moved = await workspaces.detach(keyId);
      await Promise.allSettled(ofKey(starting, keyId));
      await killAll(ofKey(running, keyId));
      if (moved === undefined) return;
      await removeTree(moved.directory);
      disk.forget(moved.home);
    },

    async close() {
      isClosed = true;
      await killAll([...running.keys()]);
      disk.close();
      await memory.close();
      spawner.close();
    },
  };

  async function start(spec: SandboxSpec, options: StartOptions): Promise<Started> {
    checkLength(spec);
    const tools = await toolbox();
    const workspace = await workspaces.open(spec.keyId);
    const access = await disk.admit(workspace);
    const { hasStdin, nice, tty } = options;
    const { argv, ...commandOptions } = toAllowed(spec, options, access);
    const { file, args, ...descriptors } = toLaunch(
      tools,
      withListener({ ...spec, argv }),
      workspace,
      directory,
      commandOptions,
    );
    const group = memory.acquire(spec.keyId);
    const killsBefore = group?.oomKills() ?? 0;
    const hasListener = spec.listenPort !== undefined;
    const startOptions = { ...descriptors, hasStdin, tty, nice, hasListener, cgroup: group?.cgroup };
    const child = await startProcess(spawner, file, args, startOptions).catch((error: unknown) => {
      group?.release();
      throw error;
    });
    running.set(child, spec.keyId);
    let isKilledForDisk = false;
    const killForDisk = (): void => {
      isKilledForDisk = true;
      child.kill(0);
    };
    const unwatch = disk.watch(workspace, { pid: child.pid, access, kill: killForDisk, writes: spec.writable?.from });
    void child.ended.then(() => {
      running.delete(child);
      unwatch();
      group?.release();
    });
    const memoryNotice = () => (group !== undefined && group.oomKills() > killsBefore ? [outOfMemory(group)] : []);
    return {
      child,
      access,
      isKilledForDisk: () => isKilledForDisk,
      notices: () => [...diskNotice(access, isKilledForDisk), ...memoryNotice()],
    };
  }

  function test(): Promise<SelfTest> {
    const { path, bundled = true } = options;
    tested ??= selfTest({ workspaces, spawner, directory, path, bundled, isRoot });
    return tested;
  }

  async function toolbox(): Promise<Toolbox> {
    const result = await test();
    if (isClosed) throw new RpcError('unavailable', { message: 'The gateway is stopping', retryAfterMs: 1_000 });
    if (result.ok) return result.tools;
    throw sandboxUnavailable(result);
  }
}

function ofKey<T>(all: ReadonlyMap<T, string>, keyId: string): T[] {
  return [...all].flatMap(([each, owner]) => (owner === keyId ? [each] : []));
}

async function killAll(processes: readonly SandboxProcess[]): Promise<void> {
  for (const child of processes) {
    child.kill(0);
    child.stdout.resume();
    child.stderr.resume();
  }
  await Promise.all(processes.map((child) => child.ended));
}

/** Adapts the command and its limits to the disk access that the workspace has. */
function toAllowed(spec: SandboxSpec, { isLong, tty }: StartOptions, access: DiskAccess) {
  const hasTerminal = tty !== undefined;
  // A long-running process cannot use a read-only workspace: it would fail later, without a clear message.
  if (isLong && !hasTerminal && access !== 'write') throw diskFull();
  const limits = {
    ...(isLong ? LONG_RUNNING_LIMITS : DEFAULT_LIMITS),
    ...spec.limits,
    ...(access !== 'write' && { fileBytes: 0 }),
  };
  const deleter = access === 'remove' ? toDeleter(spec.argv[0]) : undefined;
  const readOnly = access === 'remove' && deleter === undefined;
  const requested: SandboxSpec['argv'] = deleter === undefined ? spec.argv : [deleter, ...spec.argv.slice(1)];
  return { argv: hasTerminal ? withNotice(requested, access) : requested, limits, readOnly, hasTerminal };
}

/**
 * Throws for a command that is too long. Starting bwrap would not fail, because it receives the environment through a
 * pipe.
 */
function checkLength({ argv, env = {} }: SandboxSpec): void {
  const strings = [...argv, ...Object.entries(env).map(([name, value]) => `${name}=${value}`)];
  const sizes = strings.map((text) => Buffer.byteLength(text));
  const sum = sizes.reduce((total, bytes) => total + bytes + 9, 0);
  if (sum > STRINGS_BYTES_MAX || sizes.some((bytes) => bytes > STRING_BYTES_MAX)) throw tooLong();
}

function outOfMemory({ bytesMax }: OwnerGroup): Buffer {
  const megabytes = Math.floor(bytesMax / 2 ** 20);
  return Buffer.from(
    `\nsandbox: a process was killed: all processes of this key together may use ${megabytes} MB of memory\n`,
  );
}
