// The Sandbox port: the only way a process starts on behalf of a caller. No network, a cleared environment, a read-only
// system, a home and a /tmp per key; where the machine cannot give that, every call answers 403 `sandbox_unavailable`
// and nothing runs.
import type { Readable, Writable } from 'node:stream';
import { RpcError } from '../errors.ts';
import type { SandboxLimits } from './quota/limits.ts';

/** Where the caller's own directories are mounted inside. Both are kept between the calls of one key on one machine. */
export const HOME = '/home/user';
export const TMP = '/tmp';

/**
 * The path of the system call filter that a program run `nested` must apply to its own sandboxes (`bwrap --seccomp`).
 */
export const COMMAND_FILTER = '/etc/seccomp/command.bpf';

/** A path of the machine and its path inside. */
export interface ShownPath {
  readonly from: string;
  readonly to: string;
}

/** The program to run and its owner. Paths are as seen inside unless stated otherwise. */
export interface SandboxSpec {
  /** Owner of the workspace that is mounted. */
  readonly keyId: string;
  /** Program and arguments, never a shell line; the program is looked up on the PATH inside. */
  readonly argv: readonly [string, ...string[]];
  /** Absolute; HOME when absent. */
  readonly cwd?: string | undefined;
  /** Added to the base environment (PATH, HOME, USER, LANG, ...). Check a caller's with `checkEnvironment` first. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Paths of the machine mounted read-only. Set by the administrator, never by a caller. */
  readonly readOnly?: readonly ShownPath[];
  /**
   * A directory of the machine, owned by the gateway, mounted writable. Set by the administrator, never by a caller.
   */
  readonly writable?: ShownPath;
  /** The machine's network instead of none. Set by the administrator, never by a caller. */
  readonly network?: boolean;
  /** Whether the child may make user namespaces of its own (Codex sandboxes its commands itself). */
  readonly nested?: boolean;
  readonly limits?: Partial<SandboxLimits>;
}

export type Availability =
  | {
      readonly ok: true;
      /** What this machine cannot bound, for the operator. */
      readonly warning?: string;
    }
  | {
      readonly ok: false;
      /** What failed, for people. */
      readonly reason: string;
      /** What to install or allow. */
      readonly hint: string;
    };

/** The error of a machine that cannot run a sandbox. */
export function sandboxUnavailable({ reason, hint }: Extract<Availability, { ok: false }>): RpcError {
  return new RpcError('sandbox_unavailable', {
    message: `Sandbox unavailable: ${reason}`,
    data: { disabled_by: 'deployment', hint },
  });
}

export interface RunOptions {
  /** Aborted: TERM, 2 s, KILL of everything inside; `run` then rejects with the signal's reason. */
  readonly signal: AbortSignal;
  /** Wall time, milliseconds. */
  readonly timeoutMs: number;
  readonly stdin?: string | Uint8Array | undefined;
  /** Bytes kept of each of stdout and stderr; the rest is read and dropped. */
  readonly outputBytesMax: number;
  /** Receives the kept output as it arrives; the stream is paused while a promise is pending. */
  onOutput?(stream: 'stdout' | 'stderr', bytes: Buffer): void | Promise<void>;
}

/** How a command ended. */
export interface RunResult {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  /** As a shell reports it: 127 not found, 126 not executable, 128 + n killed by signal n. */
  readonly exitCode: number;
  /** The signal behind an exit code above 128, e.g. `SIGKILL`. */
  readonly signal: string | undefined;
  readonly timedOut: boolean;
  readonly truncated: boolean;
  /** It was killed for its use of the disk, or could write nothing because the disk is full. */
  readonly isFull?: boolean;
  readonly durationMs: number;
}

/** A long-running child with piped stdio. No process inside outlives it, nor this process. */
export interface SandboxChild {
  /** Pid of the sandbox's outermost process on this machine. */
  readonly pid: number;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Resolves when all processes inside have ended and the streams are closed. Never rejects. */
  readonly exited: Promise<{ readonly exitCode: number }>;
  /** TERM, then KILL of the whole tree after `graceMs` (2000); 0 kills at once. Resolves with `exited`. */
  kill(graceMs?: number): Promise<void>;
}

/** A program in a terminal. No process inside outlives it, nor this process. */
export interface SandboxAttached {
  /** Resolves when all processes inside have ended. Never rejects. */
  readonly exited: Promise<{ readonly exitCode: number }>;
  /** KILL to all processes inside. */
  kill(): void;
}

/**
 * Every method throws RpcError `sandbox_unavailable` where the self-test failed, `unavailable` when the slots of the
 * key or the machine are taken, `invalid_params` for a cwd that does not exist (`run`) or an argument list that the
 * kernel refuses.
 */
export interface Sandbox {
  /** The result of the self-test, which runs once. */
  available(): Promise<Availability>;
  run(spec: SandboxSpec, options: RunOptions): Promise<RunResult>;
  spawn(spec: SandboxSpec, options?: { readonly signal?: AbortSignal }): Promise<SandboxChild>;
  /**
   * Runs in the terminal at `tty` (the path of its slave side on this machine), which is its controlling terminal and
   * descriptors 0 to 2.
   */
  attach(spec: SandboxSpec, tty: string): Promise<SandboxAttached>;
  /** Kills all processes and waits for their end. */
  close(): Promise<void>;
}
