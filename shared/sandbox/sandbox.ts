// The Sandbox port: the only way a process starts on behalf of a caller. No network, a cleared environment, a read-only
// system, a home and a /tmp per key; where the machine cannot give that, every call answers 403 `sandbox_unavailable`
// and nothing runs.
import type { Readable, Writable } from 'node:stream';
import { RpcError } from '../errors.ts';
import type { SandboxLimits } from './quota/limits.ts';

/** Where the caller's own directories appear inside. Both are kept between the calls of one key on one machine. */
export const HOME = '/home/user';
export const TMP = '/tmp';

/** Where what runs `nested` finds the system call filter that it must put on its own sandboxes (`bwrap --seccomp`). */
export const COMMAND_FILTER = '/etc/seccomp/command.bpf';

/** A path of the machine and where it appears inside. */
export interface ShownPath {
  readonly from: string;
  readonly to: string;
}

/** What to run and whose it is. Paths are as seen inside unless said otherwise. */
export interface SandboxSpec {
  /** Owner of the workspace that is mounted. */
  readonly keyId: string;
  /** Program and arguments, never a shell line; the program is looked up on the PATH inside. */
  readonly argv: readonly [string, ...string[]];
  /** Absolute; HOME when absent. */
  readonly cwd?: string | undefined;
  /** Added to the base environment (PATH, HOME, USER, LANG, ...). Vet a caller's with `checkEnvironment` first. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Paths of the machine shown read-only. The administrator's to give, never a caller's. */
  readonly readOnly?: readonly ShownPath[];
  /**
   * A directory of the machine, owned by the gateway, shown writable. The administrator's to give, never a caller's.
   */
  readonly writable?: ShownPath;
  /** The machine's network instead of none. The administrator's to give, never a caller's. */
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

/** The error of a machine that cannot give a sandbox. */
export function sandboxUnavailable({ reason, hint }: Extract<Availability, { ok: false }>): RpcError {
  return new RpcError('sandbox_unavailable', { message: `Sandbox unavailable: ${reason}`, data: { hint } });
}

export interface RunOptions {
  /** Aborted: TERM, 2 s, KILL of everything inside; `run` then rejects with the signal's reason. */
  readonly signal: AbortSignal;
  /** Wall time, milliseconds. */
  readonly timeoutMs: number;
  readonly stdin?: string | Uint8Array | undefined;
  /** Bytes kept of each of stdout and stderr; the rest is read and dropped. */
  readonly outputBytesMax: number;
  /** Hears the kept output as it comes; the stream waits while a promise is pending. */
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
  /** It was killed for the room it took on the disk, or could write nothing because there is none left. */
  readonly isFull?: boolean;
  readonly durationMs: number;
}

/** A long-running child with piped stdio. Nothing inside outlives it, nor this process. */
export interface SandboxChild {
  /** Pid of the sandbox's outermost process on this machine. */
  readonly pid: number;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Resolves when everything inside is gone and the streams are closed. Never rejects. */
  readonly exited: Promise<{ readonly exitCode: number }>;
  /** TERM, then KILL of the whole tree after `graceMs` (2000); 0 kills at once. Resolves with `exited`. */
  kill(graceMs?: number): Promise<void>;
}

/** What runs in a terminal. Nothing inside outlives it, nor this process. */
export interface SandboxAttached {
  /** Resolves when everything inside is gone. Never rejects. */
  readonly exited: Promise<{ readonly exitCode: number }>;
  /** KILL to everything inside. */
  kill(): void;
}

/**
 * Every method throws RpcError `sandbox_unavailable` where the self-test failed, `unavailable` when the slots of the
 * key or the machine are taken, `invalid_params` for a cwd that is not there (`run`) or an argument list no process can
 * be given.
 */
export interface Sandbox {
  /** The self-test, made once. */
  available(): Promise<Availability>;
  run(spec: SandboxSpec, options: RunOptions): Promise<RunResult>;
  spawn(spec: SandboxSpec, options?: { readonly signal?: AbortSignal }): Promise<SandboxChild>;
  /**
   * Runs in the terminal at `tty` (the path of its slave side on this machine), which is its controlling terminal and
   * descriptors 0 to 2.
   */
  attach(spec: SandboxSpec, tty: string): Promise<SandboxAttached>;
  /** Kills everything and waits for it. */
  close(): Promise<void>;
}
