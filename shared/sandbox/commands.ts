// The Commands port: one command of a caller, run to its end. No network, a cleared environment, a read-only system, a
// home and a /tmp per key; where the machine cannot give that, every call answers 403 `sandbox_unavailable` and nothing
// runs. Contains no path, pid or descriptor of a machine, so that the sandbox may be in another process.
import { RpcError } from '../errors.ts';

/** Where the caller's own directories are mounted inside. Both are kept between the calls of one key on one machine. */
export const HOME = '/home/user';
export const TMP = '/tmp';

/** The program to run and its owner. Paths are as seen inside. */
export interface Command {
  /** Owner of the workspace that is mounted. */
  readonly keyId: string;
  /** Program and arguments, never a shell line; the program is looked up on the PATH inside. */
  readonly argv: readonly [string, ...string[]];
  /** Absolute; HOME when absent. */
  readonly cwd?: string | undefined;
  /** Added to the base environment (PATH, HOME, USER, LANG, ...). Check a caller's with `checkEnvironment` first. */
  readonly env?: Readonly<Record<string, string>> | undefined;
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

export interface Commands {
  /** The result of the sandbox's self-test, which runs once. */
  available(): Promise<Availability>;
  /**
   * Throws RpcError `sandbox_unavailable` where the self-test failed, `unavailable` when the slots of the key or the
   * machine are taken, `invalid_params` for a cwd that does not exist or an argument list that the kernel refuses.
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
