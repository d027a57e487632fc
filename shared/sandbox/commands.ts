// The Commands port: runs one command of a caller to its end, without network, with a cleared environment, a read-only
// system, and a home and a /tmp per key. If the machine does not support that, no command runs and every call throws
// `sandbox_unavailable`. The port contains no path, pid or descriptor of a machine, so the sandbox can be in another
// process.
import { RpcError } from '../errors.ts';

/** Paths in the sandbox of the caller's own directories. Both persist between the calls of one key on one machine. */
export const HOME = '/home/user';
export const TMP = '/tmp';

/** The program to run and its owner. Paths are those in the sandbox. */
export interface Command {
  /** The key whose workspace is mounted. */
  readonly keyId: string;
  /** The program and its arguments, not a shell line. The program is searched in the PATH of the sandbox. */
  readonly argv: readonly [string, ...string[]];
  /** Absolute path; default HOME. */
  readonly cwd?: string | undefined;
  /**
   * Added to the base environment (PATH, HOME, USER, LANG, ...). A caller's variables must be checked with
   * `checkEnvironment` before.
   */
  readonly env?: Readonly<Record<string, string>> | undefined;
}

export interface RunOptions {
  /**
   * When it aborts, all processes of the command receive TERM, and KILL after 2 s; `run` then rejects with the signal's
   * reason.
   */
  readonly signal: AbortSignal;
  /** Maximum wall-clock time. */
  readonly timeoutMs: number;
  readonly stdin?: string | Uint8Array | undefined;
  /** How many bytes of stdout and of stderr are returned; the rest is read and dropped. */
  readonly outputBytesMax: number;
  /**
   * Receives the returned output as it arrives. The stream is paused while a promise that it returned is pending; after
   * the end of the command, the rest of the output is passed without waiting.
   */
  onOutput?(stream: 'stdout' | 'stderr', bytes: Buffer): void | Promise<void>;
}

/** How a command ended. */
export interface RunResult {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  /** The exit code as a shell reports it: 127 not found, 126 not executable, 128 + n killed by signal n. */
  readonly exitCode: number;
  /** The signal behind an exit code above 128, e.g. `SIGKILL`. */
  readonly signal: string | undefined;
  readonly timedOut: boolean;
  readonly truncated: boolean;
  /** Whether the command was killed because the disk or the workspace is full, or could not write for that reason. */
  readonly isFull?: boolean;
  readonly durationMs: number;
}

export type Availability =
  | {
      readonly ok: true;
      /** Protections that this machine does not support, for the operator. */
      readonly warning?: string;
    }
  | {
      readonly ok: false;
      /** What failed, as text for people. */
      readonly reason: string;
      /** What to install or allow. */
      readonly hint: string;
    };

export interface Commands {
  /** The result of the sandbox's self-test, which runs once. */
  available(): Promise<Availability>;
  /**
   * Throws RpcError `sandbox_unavailable` if the self-test failed, `unavailable` when the slots of the key or the
   * machine are in use, `invalid_params` for a cwd that does not exist or an argument list that is too long for the
   * kernel.
   */
  run(command: Command, options: RunOptions): Promise<RunResult>;
}

/** The error of a machine that cannot run a sandbox. */
export function sandboxUnavailable({ reason, hint }: Extract<Availability, { ok: false }>): RpcError {
  return new RpcError('sandbox_unavailable', {
    message: `Sandbox unavailable: ${reason}`,
    data: { disabled_by: 'deployment', hint },
  });
}
