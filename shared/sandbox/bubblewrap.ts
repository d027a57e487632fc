// The Sandbox port on bubblewrap (https://github.com/containers/bubblewrap). bwrap creates the namespaces, setrlimit(2)
// sets the limits. Each command has a PID namespace, so its processes end with it. If the self-test fails, no command
// runs.
import { join } from 'node:path';
import { createSlots, LONG_SLOTS, SHORT_SLOTS } from '../bounds/slots.ts';
import { RpcError } from '../errors.ts';
import type { Toolbox } from './bwrap/bubblewrap-command.ts';
import { runToEnd } from './commands/run.ts';
import { GRACE_MS, type SandboxProcess } from './process/sandbox-process.ts';
import { type BubblewrapOptions, createStarter } from './process/starter.ts';
import type { Sandbox, SandboxAttached, SandboxChild } from './sandbox.ts';

/** Nice values: a command may use all idle processor time, and the gateway still answers its clients. */
const NICE_COMMAND = 15;
const NICE_LONG = 5;

export function createBubblewrapSandbox(options: BubblewrapOptions): Sandbox {
  const starter = createStarter(options);
  const shortSlots = createSlots(SHORT_SLOTS);
  const longSlots = createSlots(LONG_SLOTS);

  return {
    async available() {
      const result = await starter.test();
      if (!result.ok) return result;
      const warnings = warningsOf(result.tools, starter.memoryLimitMissing);
      return { ok: true, ...(warnings.length > 0 && { warning: warnings.join('; ') }) };
    },

    async run(spec, runOptions) {
      await starter.toolbox();
      const release = await shortSlots.acquire(spec.keyId, runOptions.signal);
      try {
        const startedMs = performance.now();
        const how = { isLong: false, hasStdin: runOptions.stdin !== undefined, nice: NICE_COMMAND };
        const result = await runToEnd(spec, await starter.start(spec, how), runOptions);
        return { ...result, durationMs: performance.now() - startedMs };
      } finally {
        release();
      }
    },

    async spawn(spec, { signal } = {}) {
      await starter.toolbox();
      const release = await longSlots.acquire(spec.keyId, signal);
      try {
        const { child } = await starter.start(spec, { isLong: true, hasStdin: true, nice: NICE_LONG });
        const spawned = toSandboxChild(child);
        void child.ended.then(release);
        const aborted = (): void => child.kill(GRACE_MS);
        signal?.addEventListener('abort', aborted, { once: true });
        void child.ended.then(() => signal?.removeEventListener('abort', aborted));
        return spawned;
      } catch (error) {
        release();
        throw error;
      }
    },

    async attach(spec, tty) {
      await starter.toolbox();
      const release = await longSlots.acquire(spec.keyId);
      try {
        const { child } = await starter.start(spec, { isLong: true, hasStdin: false, tty, nice: NICE_LONG });
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

    erase: starter.erase,
    close: starter.close,
  };
}

function toSandboxChild({ pid, stdin, stdout, stderr, listener, ended, kill }: SandboxProcess): SandboxChild {
  if (stdin === undefined) throw new RpcError('internal');
  const exited = ended.then(({ exitCode }) => ({ exitCode }));
  return {
    pid,
    stdin,
    stdout,
    stderr,
    listener,
    exited,
    async kill(graceMs = GRACE_MS) {
      kill(graceMs);
      // Unread output would keep the streams open.
      stdout.resume();
      stderr.resume();
      await exited;
    },
  };
}

/** Protections that this machine does not support, for the operator. */
function warningsOf(
  { isRoot, ownUid, disableUserNamespaces }: Toolbox,
  memoryLimitMissing: string | undefined,
): string[] {
  const hasNamespace = !isRoot || ownUid;
  return [
    ...(memoryLimitMissing === undefined
      ? []
      : [
          `no memory control group can be created here (${memoryLimitMissing}): only the private memory of ` +
            'commands is limited, not their shared memory (memfd, /dev/shm)',
        ]),
    ...(hasNamespace ? [] : ['bwrap runs as root: it cannot create a user namespace under the uid of a key']),
    ...(hasNamespace && !disableUserNamespaces
      ? ['bwrap has no --disable-userns (it needs 0.8 or later): only the system call filter refuses user namespaces']
      : []),
  ];
}

/** The directory of the workspaces in a data directory. */
export function workspacesOf(dataDir: string): string {
  return join(dataDir, 'workspaces');
}
