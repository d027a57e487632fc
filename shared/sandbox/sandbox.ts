// The Sandbox port: the only way to start a process for a caller on this machine. Only the local adapters of the ports
// `Commands`, `Terminals`, `StdioServers` and `CodexHost` use it. Everything else uses those ports, which can also be
// served by another machine.
import type { Server } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import type { Availability, Command, RunOptions, RunResult } from './commands.ts';
import type { SandboxLimits } from './limits.ts';

/**
 * Path inside the sandbox: the system call filter that a program run with `nested` must apply to its own sandboxes
 * (`bwrap --seccomp`).
 */
export const COMMAND_FILTER = '/etc/seccomp/command.bpf';

/** A path of the machine and the path at which it is mounted in the sandbox. */
export interface MountedPath {
  readonly from: string;
  readonly to: string;
}

/** A command, with what the administrator or the gateway adds to it; a caller sets none of these fields. */
export interface SandboxSpec extends Command {
  /** Paths of the machine that are mounted read-only. */
  readonly readOnly?: readonly MountedPath[];
  /** A directory of the machine, owned by the gateway, that is mounted writable. */
  readonly writable?: MountedPath;
  /** Whether the command has the machine's network; by default it has none. */
  readonly network?: boolean;
  /** A port of 127.0.0.1 inside the sandbox on which the gateway listens: see `SandboxChild.listener`. */
  readonly listenPort?: number;
  /** Whether the command may create user namespaces (Codex sandboxes its commands itself). */
  readonly nested?: boolean;
  readonly limits?: Partial<SandboxLimits>;
}

/** A long-running program with piped stdio. Its processes end with it, and with this process. */
export interface SandboxChild {
  /** Pid of bwrap, the sandbox's outermost process on this machine. */
  readonly pid: number;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /**
   * The server that listens on `listenPort` inside the sandbox; the caller closes it. It listens about 50 ms after the
   * start; earlier connections are refused. Rejects when the listening program cannot run. Undefined without
   * `listenPort`.
   */
  readonly listener: Promise<Server> | undefined;
  /** Resolves when all processes in the sandbox have ended and the streams are closed. Never rejects. */
  readonly exited: Promise<{ readonly exitCode: number }>;
  /**
   * Sends TERM, and after `graceMs` (default 2000) KILL to all processes; with 0, KILL at once. Resolves when `exited`
   * does.
   */
  kill(graceMs?: number): Promise<void>;
}

/** A program in a terminal. Its processes end with it, and with this process. */
export interface SandboxAttached {
  /** Resolves when all processes in the sandbox have ended. Never rejects. */
  readonly exited: Promise<{ readonly exitCode: number }>;
  /** Sends KILL to all processes in the sandbox. */
  kill(): void;
}

/**
 * Every method throws RpcError `sandbox_unavailable` if the self-test failed, `unavailable` when the slots of the key
 * or the machine are in use, `invalid_params` for a cwd that does not exist (`run`) or an argument list that is too
 * long for the kernel.
 */
export interface Sandbox {
  /** The result of the self-test, which runs once. */
  available(): Promise<Availability>;
  run(spec: SandboxSpec, options: RunOptions): Promise<RunResult>;
  spawn(spec: SandboxSpec, options?: { readonly signal?: AbortSignal }): Promise<SandboxChild>;
  /**
   * Starts a program in the terminal at `tty` (the path of its slave side on this machine). The terminal becomes its
   * controlling terminal and its descriptors 0 to 2.
   */
  attach(spec: SandboxSpec, tty: string): Promise<SandboxAttached>;
  /** Kills the processes of a key, waits for their end, and removes its workspace. Also where no sandbox works. */
  erase(keyId: string): Promise<void>;
  /** Kills all processes and waits for their end. */
  close(): Promise<void>;
}
