// Starts bwrap for a key: its workspace, what the disk and the memory of the key allow, and the limits that follow.
import { resolve } from 'node:path';
import { RpcError } from '../../errors.ts';
import type { Toolbox } from '../bubblewrap-command.ts';
import { sandboxUnavailable } from '../commands.ts';
import { createDiskGuard } from '../quota/disk-guard.ts';
import { diskFull, diskNotice, toDeleter, withNotice } from '../quota/disk-notice.ts';
import { DEFAULT_LIMITS, type DiskLimits, LONG_RUNNING_LIMITS } from '../quota/limits.ts';
import type { DiskAccess } from '../quota/measured-workspace.ts';
import { createMemoryGroups, type OwnerGroup } from '../quota/memory-cgroup.ts';
import type { SandboxSpec } from '../sandbox.ts';
import { type SelfTest, selfTest } from '../self-test.ts';
import { createWorkspaces } from '../workspaces.ts';
import { toLaunch } from './launch.ts';
import { withListener } from './listener.ts';
import { showWorkspaces } from './own-uid.ts';
import { type SandboxProcess, startProcess, tooLong } from './sandbox-process.ts';
import { createSpawner } from './spawner.ts';

export interface BubblewrapOptions {
  /** Directory of all workspaces on this machine; created when missing. */
  readonly directory: string;
  /** Where to search for bwrap, as in PATH. */
  readonly path: string;
  /** Whether the bwrap that comes with Codex may be used; default true. */
  readonly bundled?: boolean;
  /** Default: DISK_LIMITS. */
  readonly disk?: DiskLimits;
  /** Upper bound of the memory of all processes of a key together; default: 2 GiB. */
  readonly ownerMemoryBytes?: number;
}

export interface StartHow {
  readonly isLong: boolean;
  readonly hasStdin: boolean;
  readonly nice: number;
  /** Path of the terminal that replaces the streams. */
  readonly tty?: string;
}

export interface Started {
  readonly child: SandboxProcess;
  readonly access: DiskAccess;
  /** Whether it was killed because its workspace, or the disk, is full. */
  isOverDisk(): boolean;
  /** Appended to the stderr of the command when it has failed: the limits of the key that it met. */
  notices(): Buffer[];
}

export interface Starter {
  /** The result of the self-test, which runs once. */
  test(): Promise<SelfTest>;
  /** Throws `unavailable` after `close`, and `sandbox_unavailable` where the self-test failed. */
  toolbox(): Promise<Toolbox>;
  /** Throws as `toolbox` and `startProcess`; `unavailable` for a long-running process in a full workspace. */
  start(spec: SandboxSpec, how: StartHow): Promise<Started>;
  /** Why the memory of a key cannot be limited here. */
  readonly missingMemory: string | undefined;
  /** Kills all processes and waits for their end. */
  close(): Promise<void>;
}

/**
 * Limits of one string, and of all arguments and environment of a program together, with room for what the sandbox adds
 * (execve(2)).
 */
const STRING_BYTES_MAX = (128 << 10) - 1;
const STRINGS_BYTES_MAX = 1900 << 10;

/** Owns what all processes of this sandbox share: workspaces, disk, memory groups and the helper that starts them. */
export function createStarter(options: BubblewrapOptions): Starter {
  const isRoot = process.getuid?.() === 0;
  // The helper that starts processes has another working directory.
  const directory = resolve(options.directory);
  const workspaces = createWorkspaces(directory, isRoot);
  const disk = createDiskGuard(directory, options.disk);
  const running = new Set<SandboxProcess>();
  const spawner = createSpawner(() => (isRoot ? showWorkspaces(directory) : []));
  const memory = createMemoryGroups((path) => spawner.leave(path), options.ownerMemoryBytes);
  let tested: Promise<SelfTest> | undefined;
  let isClosed = false;

  return {
    get missingMemory() {
      return memory.missing;
    },
    test,
    toolbox,

    async start(spec, how) {
      checkLength(spec);
      const tools = await toolbox();
      const workspace = await workspaces.open(spec.keyId);
      const access = await disk.admit(workspace);
      const { hasStdin, nice, tty } = how;
      const { argv, ...where } = toAllowed(spec, how, access);
      const { file, args, ...given } = toLaunch(tools, withListener({ ...spec, argv }), workspace, directory, where);
      const group = memory.acquire(spec.keyId);
      const killsBefore = group?.oomKills() ?? 0;
      const hasListener = spec.listenPort !== undefined;
      const startOptions = { ...given, hasStdin, tty, nice, hasListener, cgroup: group?.cgroup };
      const child = await startProcess(spawner, file, args, startOptions).catch((error: unknown) => {
        group?.release();
        throw error;
      });
      running.add(child);
      let isOverDisk = false;
      const kill = (): void => {
        isOverDisk = true;
        child.kill(0);
      };
      const unwatch = disk.watch(workspace, { pid: child.pid, access, kill, writes: spec.writable?.from });
      void child.ended.then(() => {
        running.delete(child);
        unwatch();
        group?.release();
      });
      const memoryNotice = () => (group !== undefined && group.oomKills() > killsBefore ? [outOfMemory(group)] : []);
      return {
        child,
        access,
        isOverDisk: () => isOverDisk,
        notices: () => [...diskNotice(access, isOverDisk), ...memoryNotice()],
      };
    },

    async close() {
      isClosed = true;
      const all = [...running];
      for (const child of all) {
        child.kill(0);
        child.stdout.resume();
        child.stderr.resume();
      }
      await Promise.all(all.map((child) => child.ended));
      disk.close();
      await memory.close();
      spawner.close();
    },
  };

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

/** The command and its limits as they are where the disk allows only `access`. */
function toAllowed(spec: SandboxSpec, { isLong, tty }: StartHow, access: DiskAccess) {
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
 * bwrap gets the environment through a pipe, so starting bwrap itself does not fail when the environment is too long.
 */
function checkLength({ argv, env = {} }: SandboxSpec): void {
  const strings = [...argv, ...Object.entries(env).map(([name, value]) => `${name}=${value}`)];
  const sizes = strings.map((text) => Buffer.byteLength(text));
  const sum = sizes.reduce((total, bytes) => total + bytes + 9, 0);
  if (sum > STRINGS_BYTES_MAX || sizes.some((bytes) => bytes > STRING_BYTES_MAX)) throw tooLong();
}

function outOfMemory({ bytesMax }: OwnerGroup): Buffer {
  return Buffer.from(
    `\nsandbox: a process was killed, all of this key together may have ${Math.floor(bytesMax / 2 ** 20)} MB ` +
      'of memory\n',
  );
}
