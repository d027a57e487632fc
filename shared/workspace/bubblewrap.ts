// The Sandbox port on bubblewrap (https://github.com/containers/bubblewrap): namespaces by bwrap, limits by setrlimit, a PID namespace per
// command so that nothing survives it. Where the self-test fails, nothing runs.
import { join } from 'node:path';
import { RpcError } from '../errors.ts';
import { CANNOT_ENTER, type CommandOptions, toBubblewrapArgs } from './bubblewrap-command.ts';
import { createDiskGuard, type DiskAccess, type DiskLimits } from './disk-guard.ts';
import { diskFull, diskNotice, toDeleter, withNotice } from './disk-notice.ts';
import { DEFAULT_LIMITS, LONG_RUNNING_LIMITS } from './limits.ts';
import { createMemoryGroups, type OwnerGroup } from './memory-cgroup.ts';
import { keep } from './output.ts';
import { showWorkspaces, toShown } from './own-uid.ts';
import {
  type RunResult,
  type Sandbox,
  type SandboxChild,
  type SandboxCommand,
  type SandboxSpec,
  sandboxUnavailable,
} from './sandbox.ts';
import { GRACE_MS, killPid, type SandboxProcess, STATUS_FD, signalOf, startProcess } from './sandbox-process.ts';
import { type SelfTest, selfTest } from './self-test.ts';
import { createSlots, LONG_SLOTS, SHORT_SLOTS } from './slots.ts';
import { createSpawner } from './spawner.ts';
import { createWorkspaces, type Workspace } from './workspaces.ts';

export interface BubblewrapOptions {
  /** Directory of all workspaces on this machine; made when missing. */
  readonly directory: string;
  /** Where to look for bwrap, as in PATH. */
  readonly path: string;
  /** Whether the one that comes with Codex will do; default true. */
  readonly bundled?: boolean;
  /** Default: DISK_LIMITS. */
  readonly disk?: DiskLimits;
  /** Most of what all processes of a key may have together; default: 2 GiB. */
  readonly ownerMemoryBytes?: number;
}

/** A command may use all that is left of the processor; a server somebody talks to must still be able to answer. */
const NICE_COMMAND = 15;
const NICE_LONG = 5;

export function createBubblewrapSandbox(options: BubblewrapOptions): Sandbox {
  const isRoot = process.getuid?.() === 0;
  const { directory } = options;
  const workspaces = createWorkspaces(directory, isRoot);
  const disk = createDiskGuard(directory, options.disk);
  const shortSlots = createSlots(SHORT_SLOTS);
  const longSlots = createSlots(LONG_SLOTS);
  const running = new Set<SandboxProcess>();
  let ownUid = false;
  const spawner = createSpawner(() => (ownUid ? showWorkspaces(directory) : []));
  const memory = createMemoryGroups((path) => spawner.leave(path), options.ownerMemoryBytes);
  let tested: Promise<SelfTest> | undefined;
  let isClosed = false;

  const test = (): Promise<SelfTest> => {
    tested ??= selfTest(workspaces, { directory, path: options.path, bundled: options.bundled ?? true, isRoot });
    return tested;
  };

  return {
    async available() {
      const result = await test();
      if (!result.ok) return result;
      return { ok: true, ...(memory.missing !== undefined && { warning: memoryWarning(memory.missing) }) };
    },

    async run(spec, { signal, timeoutMs, stdin, outputBytesMax, onOutput }) {
      await toolbox();
      const release = await shortSlots.acquire(spec.keyId, signal);
      try {
        const startedMs = performance.now();
        let isKilled = false;
        const how = { isLong: false, hasStdin: stdin !== undefined, nice: NICE_COMMAND };
        const { child, access, memoryNotice } = await start(spec, how, () => {
          isKilled = true;
        });
        const aborted = (): void => child.kill(GRACE_MS);
        let timedOut = false;
        const timer = setTimeout(() => {
          timedOut = true;
          child.kill(GRACE_MS);
        }, timeoutMs);
        if (signal.aborted) child.kill(0);
        signal.addEventListener('abort', aborted, { once: true });
        child.stdin?.end(stdin);
        const [stdout, stderr, ended] = await Promise.all([
          keep(child.stdout, outputBytesMax, onOutput && ((bytes) => onOutput('stdout', bytes))),
          keep(child.stderr, outputBytesMax, onOutput && ((bytes) => onOutput('stderr', bytes))),
          child.ended,
        ]);
        clearTimeout(timer);
        signal.removeEventListener('abort', aborted);
        signal.throwIfAborted();
        const { exitCode } = ended;
        const message = stderr.bytes.toString('utf8', 0, 500);
        if (!ended.started) throw new RpcError('internal', { cause: new Error(`bwrap: ${message}`) });
        if (exitCode === CANNOT_ENTER.exitCode && CANNOT_ENTER.message.test(message)) throw noDirectory(spec);
        return {
          stdout: stdout.bytes,
          stderr: Buffer.concat([
            stderr.bytes,
            ...(exitCode === 0 ? [] : [...diskNotice(access, isKilled), ...memoryNotice()]),
          ]),
          exitCode,
          signal: signalOf(exitCode),
          timedOut,
          truncated: stdout.truncated || stderr.truncated,
          isFull: isKilled || access !== 'write',
          durationMs: performance.now() - startedMs,
        } satisfies RunResult;
      } finally {
        release();
      }
    },

    async spawn(spec, { signal } = {}) {
      await toolbox();
      const release = await longSlots.acquire(spec.keyId, signal);
      try {
        const { child } = await start(spec, { isLong: true, hasStdin: true, nice: NICE_LONG });
        const { pid, stdin, stdout, stderr } = child;
        if (stdin === undefined) throw new RpcError('internal');
        void child.ended.then(release);
        const aborted = (): void => child.kill(GRACE_MS);
        signal?.addEventListener('abort', aborted, { once: true });
        void child.ended.then(() => signal?.removeEventListener('abort', aborted));
        const exited = child.ended.then(({ exitCode }) => ({ exitCode }));
        return {
          pid,
          stdin,
          stdout,
          stderr,
          exited,
          async kill(graceMs = GRACE_MS) {
            child.kill(graceMs);
            // What nobody reads would keep the streams open.
            stdout.resume();
            stderr.resume();
            await exited;
          },
        } satisfies SandboxChild;
      } catch (error) {
        release();
        throw error;
      }
    },

    async command(spec) {
      const tools = await toolbox();
      const asRoot = tools.isRoot;
      const workspace = await workspaces.open(spec.keyId);
      const access = await disk.admit(workspace);
      const how = { isLong: true, asRoot, newSession: false, closesFds: true };
      const args = await toArgs({ ...spec, argv: withNotice(spec.argv, access) }, workspace, access, how);
      const release = await longSlots.acquire(spec.keyId);
      let unwatch: (() => void) | undefined;
      return {
        file: tools.bwrap,
        args,
        env: {},
        tame(pid) {
          unwatch ??= disk.watch(workspace, { pid, access, kill: () => killPid(pid) });
        },
        release() {
          unwatch?.();
          release();
        },
      } satisfies SandboxCommand;
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

  async function toolbox() {
    const result = await test();
    if (isClosed) throw new RpcError('unavailable', { message: 'The gateway is stopping', retryAfterMs: 1_000 });
    if (result.ok) {
      ownUid = result.tools.ownUid;
      return result.tools;
    }
    throw sandboxUnavailable(result);
  }

  async function toArgs(
    spec: SandboxSpec,
    workspace: Workspace,
    access: DiskAccess,
    { isLong, ...how }: { readonly isLong: boolean } & Omit<CommandOptions, 'limits'>,
  ): Promise<string[]> {
    const tools = await toolbox();
    // env(1) would take such a program for a variable.
    if (spec.argv[0].includes('=')) {
      const issues = [{ path: 'command', message: 'must not contain "="' }];
      throw new RpcError('invalid_params', { data: { issues } });
    }
    const deleter = access === 'remove' ? toDeleter(spec.argv[0]) : undefined;
    const readOnly = access === 'remove' && deleter === undefined;
    const allowed = deleter === undefined ? spec : { ...spec, argv: [deleter, ...spec.argv.slice(1)] as const };
    const limits = {
      ...(isLong ? LONG_RUNNING_LIMITS : DEFAULT_LIMITS),
      ...spec.limits,
      ...(access !== 'write' && { fileBytes: 0 }),
    };
    const seen = tools.isRoot && !how.asRoot ? toShown(workspace, directory) : workspace;
    return toBubblewrapArgs(tools, allowed, seen, { limits, readOnly, ...how });
  }

  async function start(
    spec: SandboxSpec,
    { isLong, hasStdin, nice }: { readonly isLong: boolean; readonly hasStdin: boolean; readonly nice: number },
    onOverDisk?: () => void,
  ): Promise<Started> {
    const tools = await toolbox();
    const workspace = await workspaces.open(spec.keyId);
    const access = await disk.admit(workspace);
    // What runs for long has no use for a workspace that cannot be written to, and would only fail later, and obscurely.
    if (isLong && access !== 'write') throw diskFull();
    // Paths that the administrator has given may be where a key's uid cannot go.
    const asRoot = tools.isRoot && !(tools.ownUid && spec.readOnlyPaths === undefined && spec.writable === undefined);
    const args = await toArgs(spec, workspace, access, { isLong, asRoot, newSession: true, statusFd: STATUS_FD, nice });
    const uid = asRoot ? undefined : workspace.uid;
    const group = memory.acquire(spec.keyId);
    const killsBefore = group?.oomKills() ?? 0;
    const options = { hasStdin, nice, uid, cgroup: group?.cgroup };
    const child = await startProcess(spawner, tools.bwrap, args, options).catch((error: unknown) => {
      group?.release();
      throw error;
    });
    running.add(child);
    const kill = (): void => {
      onOverDisk?.();
      child.kill(0);
    };
    const unwatch = disk.watch(workspace, { pid: child.pid, access, kill, writes: spec.writable?.from });
    void child.ended.then(() => {
      running.delete(child);
      unwatch();
      group?.release();
    });
    const memoryNotice = () => (group !== undefined && group.oomKills() > killsBefore ? [outOfMemory(group)] : []);
    return { child, access, memoryNotice };
  }
}

interface Started {
  readonly child: SandboxProcess;
  readonly access: DiskAccess;
  /** What is added to its stderr when it has failed. */
  memoryNotice(): Buffer[];
}

function outOfMemory({ bytesMax }: OwnerGroup): Buffer {
  return Buffer.from(
    `\nsandbox: a process was killed, all of this key together may have ${Math.floor(bytesMax / 2 ** 20)} MB of memory\n`,
  );
}

function memoryWarning(missing: string): string {
  return `no memory control group can be made here (${missing}): commands are limited in their private memory, not in what they share (memfd, /dev/shm)`;
}

/** Where the workspaces of a data directory are. */
export function workspacesOf(dataDir: string): string {
  return join(dataDir, 'workspaces');
}

function noDirectory(spec: SandboxSpec): RpcError {
  const issues = [{ path: 'cwd', message: `${spec.cwd ?? ''} is not a directory of the workspace` }];
  return new RpcError('invalid_params', { data: { issues } });
}
