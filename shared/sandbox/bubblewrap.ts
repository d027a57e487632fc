// The Sandbox port on bubblewrap (https://github.com/containers/bubblewrap): namespaces by bwrap, limits by setrlimit,
// a PID namespace per command so that no process outlives it. Where the self-test fails, nothing runs.
import { join, resolve } from 'node:path';
import { RpcError } from '../errors.ts';
import { createSlots, LONG_SLOTS, SHORT_SLOTS } from '../slots.ts';
import { CANNOT_ENTER, type Toolbox } from './bubblewrap-command.ts';
import { keep } from './output.ts';
import { toLaunch } from './process/launch.ts';
import { showWorkspaces } from './process/own-uid.ts';
import { GRACE_MS, type SandboxProcess, signalOf, startProcess, tooLong } from './process/sandbox-process.ts';
import { createSpawner } from './process/spawner.ts';
import { createDiskGuard, type DiskAccess, type DiskLimits } from './quota/disk-guard.ts';
import { diskFull, diskNotice, toDeleter, withNotice } from './quota/disk-notice.ts';
import { DEFAULT_LIMITS, LONG_RUNNING_LIMITS } from './quota/limits.ts';
import { createMemoryGroups, type OwnerGroup } from './quota/memory-cgroup.ts';
import {
  type RunResult,
  type Sandbox,
  type SandboxAttached,
  type SandboxChild,
  type SandboxSpec,
  sandboxUnavailable,
} from './sandbox.ts';
import { type SelfTest, selfTest } from './self-test.ts';
import { createWorkspaces } from './workspaces.ts';

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

/** A command may use all idle processor time; the gateway must still be able to answer its clients. */
const NICE_COMMAND = 15;
const NICE_LONG = 5;

/**
 * Limits of one string, and of all arguments and environment of a program together, with room for what the sandbox adds
 * (execve(2)).
 */
const STRING_BYTES_MAX = (128 << 10) - 1;
const STRINGS_BYTES_MAX = 1900 << 10;

export function createBubblewrapSandbox(options: BubblewrapOptions): Sandbox {
  const isRoot = process.getuid?.() === 0;
  // The helper that starts processes has another working directory.
  const directory = resolve(options.directory);
  const workspaces = createWorkspaces(directory, isRoot);
  const disk = createDiskGuard(directory, options.disk);
  const shortSlots = createSlots(SHORT_SLOTS);
  const longSlots = createSlots(LONG_SLOTS);
  const running = new Set<SandboxProcess>();
  const spawner = createSpawner(() => (isRoot ? showWorkspaces(directory) : []));
  const memory = createMemoryGroups((path) => spawner.leave(path), options.ownerMemoryBytes);
  let tested: Promise<SelfTest> | undefined;
  let isClosed = false;

  const test = (): Promise<SelfTest> => {
    const { path, bundled = true } = options;
    tested ??= selfTest({ workspaces, spawner, directory, path, bundled, isRoot });
    return tested;
  };

  return {
    async available() {
      const result = await test();
      if (!result.ok) return result;
      const warnings = weaknesses(result.tools, memory.missing);
      return { ok: true, ...(warnings.length > 0 && { warning: warnings.join('; ') }) };
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
            // Output that is not read would keep the streams open.
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

    async attach(spec, tty) {
      await toolbox();
      const release = await longSlots.acquire(spec.keyId);
      try {
        const { child } = await start(spec, { isLong: true, hasStdin: false, tty, nice: NICE_LONG });
        void child.ended.then(release);
        return {
          exited: child.ended.then(({ exitCode }) => ({ exitCode })),
          kill: () => child.kill(0),
        } satisfies SandboxAttached;
      } catch (error) {
        release();
        throw error;
      }
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
    if (result.ok) return result.tools;
    throw sandboxUnavailable(result);
  }

  async function start(spec: SandboxSpec, how: StartHow, onOverDisk?: () => void): Promise<Started> {
    checkLength(spec);
    const { isLong, hasStdin, nice, tty } = how;
    const tools = await toolbox();
    const workspace = await workspaces.open(spec.keyId);
    const access = await disk.admit(workspace);
    // A long-running process cannot use a read-only workspace: it would fail later, without a clear message.
    if (isLong && tty === undefined && access !== 'write') throw diskFull();
    const limits = {
      ...(isLong ? LONG_RUNNING_LIMITS : DEFAULT_LIMITS),
      ...spec.limits,
      ...(access !== 'write' && { fileBytes: 0 }),
    };
    const deleter = access === 'remove' ? toDeleter(spec.argv[0]) : undefined;
    const readOnly = access === 'remove' && deleter === undefined;
    const requested: SandboxSpec['argv'] = deleter === undefined ? spec.argv : [deleter, ...spec.argv.slice(1)];
    const argv = tty === undefined ? requested : withNotice(requested, access);
    const where = { limits, readOnly, hasTerminal: tty !== undefined };
    const { file, args, ...given } = toLaunch(tools, { ...spec, argv }, workspace, directory, where);
    const group = memory.acquire(spec.keyId);
    const killsBefore = group?.oomKills() ?? 0;
    const options = { ...given, hasStdin, tty, nice, cgroup: group?.cgroup };
    const child = await startProcess(spawner, file, args, options).catch((error: unknown) => {
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

interface StartHow {
  readonly isLong: boolean;
  readonly hasStdin: boolean;
  readonly nice: number;
  readonly tty?: string;
}

interface Started {
  readonly child: SandboxProcess;
  readonly access: DiskAccess;
  /** Appended to the stderr of a command that failed. */
  memoryNotice(): Buffer[];
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
    `\nsandbox: a process was killed, all of this key together may have ${Math.floor(bytesMax / 2 ** 20)} MB of memory\n`,
  );
}

/** What this machine lacks, for the operator. */
function weaknesses({ isRoot, ownUid, disableUserNamespaces }: Toolbox, missingMemory: string | undefined): string[] {
  const hasNamespace = !isRoot || ownUid;
  return [
    ...(missingMemory === undefined
      ? []
      : [
          `no memory control group can be made here (${missingMemory}): commands are limited in their private memory, ` +
            'not in what they share (memfd, /dev/shm)',
        ]),
    ...(hasNamespace ? [] : ['bwrap runs as root: it cannot make a user namespace under the uid of a key']),
    ...(hasNamespace && !disableUserNamespaces
      ? ['bwrap has no --disable-userns (it needs 0.8 or later): only the system call filter refuses user namespaces']
      : []),
  ];
}

/** Where the workspaces of a data directory are. */
export function workspacesOf(dataDir: string): string {
  return join(dataDir, 'workspaces');
}

function noDirectory(spec: SandboxSpec): RpcError {
  const issues = [{ path: 'cwd', message: `${spec.cwd ?? ''} is not a directory of the workspace` }];
  return new RpcError('invalid_params', { data: { issues } });
}
