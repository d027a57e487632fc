// Starts bwrap for a key: opens its workspace, checks its disk usage, assigns its memory group, and sets the limits.
import { resolve } from 'node:path';
import { RpcError } from '../../errors.ts';
import type { Toolbox } from '../bwrap/bubblewrap-command.ts';
import { toLaunch } from '../bwrap/launch.ts';
import { mountWorkspaces } from '../bwrap/own-uid.ts';
import { sandboxUnavailable } from '../commands.ts';
import type { DiskLimits } from '../limits.ts';
import { withListener } from '../network/listener.ts';
import { createDiskGuard } from '../quota/disk-guard.ts';
import type { DiskAccess } from '../quota/measured-workspace.ts';
import { diskLimitsOf } from '../quota/memory-disk.ts';
import { createMemoryGroups } from '../quota/memory-groups.ts';
import type { SandboxSpec } from '../sandbox.ts';
import { createSpawner } from '../spawner/spawner.ts';
import { removeTree } from '../workspace/remove-tree.ts';
import { createWorkspaces } from '../workspace/workspaces.ts';
import { checkLength, toAllowed } from './allowed-command.ts';
import { createKeyProcesses } from './key-processes.ts';
import { type LimitWatch, watchLimits } from './limit-watch.ts';
import { type SandboxProcess, startProcess } from './sandbox-process.ts';
import { type SelfTest, selfTest } from './self-test.ts';

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

export interface Started extends LimitWatch {
  readonly child: SandboxProcess;
  readonly access: DiskAccess;
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
 * Owns what all processes of this sandbox share: the workspaces, the disk guard, the memory groups and the helper
 * process that starts them.
 */
export function createStarter(options: BubblewrapOptions): Starter {
  const isRoot = process.getuid?.() === 0;
  // Absolute, because the helper process has another working directory.
  const directory = resolve(options.directory);
  const workspaces = createWorkspaces(directory, isRoot);
  const disk = createDiskGuard(directory, options.disk ?? diskLimitsOf(directory, options.isDiskMemory === true));
  const processes = createKeyProcesses();
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

    start: (spec, options) => processes.track(spec.keyId, start(spec, options)),

    async erase(keyId) {
      // Moved first: a process that starts from now on gets new directories. Those of the moved ones must end before
      // root empties these, because a process could put a symbolic link in the place of a directory meanwhile.
      const moved = await workspaces.detach(keyId);
      await processes.end(keyId);
      if (moved === undefined) return;
      await removeTree(moved.directory);
      disk.forget(moved.home);
    },

    async close() {
      isClosed = true;
      await processes.endAll();
      disk.close();
      await memory.close();
      spawner.close();
    },
  };

  async function start(spec: SandboxSpec, { isLong, hasStdin, nice, tty }: StartOptions): Promise<Started> {
    checkLength(spec);
    const tools = await toolbox();
    const workspace = await workspaces.open(spec.keyId);
    const access = await disk.admit(workspace);
    // The sandbox may have been closed meanwhile: its memory groups are gone, and no process would be ended.
    throwIfClosed();
    const { argv, ...commandOptions } = toAllowed(spec, isLong, tty !== undefined, access);
    const command = withListener({ ...spec, argv });
    const { file, args, ...descriptors } = toLaunch(tools, command, workspace, directory, commandOptions);
    const group = memory.acquire(spec.keyId);
    const killsBefore = group?.oomKills() ?? 0;
    const hasListener = spec.listenPort !== undefined;
    const startOptions = { ...descriptors, hasStdin, tty, nice, hasListener, cgroup: group?.cgroup };
    const child = await startProcess(spawner, file, args, startOptions).catch((error: unknown) => {
      group?.release();
      throw error;
    });
    processes.add(spec.keyId, child);
    const writes = spec.writable?.from;
    return { child, access, ...watchLimits(child, { disk, workspace, access, writes, group, killsBefore }) };
  }

  function test(): Promise<SelfTest> {
    const { path, bundled = true } = options;
    tested ??= selfTest({ workspaces, spawner, directory, path, bundled, isRoot });
    return tested;
  }

  async function toolbox(): Promise<Toolbox> {
    const result = await test();
    throwIfClosed();
    if (result.ok) return result.tools;
    throw sandboxUnavailable(result);
  }

  function throwIfClosed(): void {
    if (isClosed) throw new RpcError('unavailable', { message: 'The gateway is stopping', retryAfterMs: 1_000 });
  }
}
