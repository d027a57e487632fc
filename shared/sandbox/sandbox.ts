// The sandbox of this machine: the only way a process starts on behalf of a caller. Only the adapters in this process
// use it; everything above them uses their ports (`Commands`, `Terminals`, `StdioServers`), which need no machine.
import type { Server } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import type { Availability, Command, RunOptions, RunResult } from './commands.ts';
import type { SandboxLimits } from './quota/limits.ts';

/**
 * The path of the system call filter that a program run `nested` must apply to its own sandboxes (`bwrap --seccomp`).
 */
export const COMMAND_FILTER = '/etc/seccomp/command.bpf';

/** A path of the machine and its path inside. */
export interface ShownPath {
  readonly from: string;
  readonly to: string;
}

/** A command and what the administrator or the gateway adds to it. */
export interface SandboxSpec extends Command {
  /** Paths of the machine mounted read-only. Set by the administrator, never by a caller. */
  readonly readOnly?: readonly ShownPath[];
  /**
   * A directory of the machine, owned by the gateway, mounted writable. Set by the administrator, never by a caller.
   */
  readonly writable?: ShownPath;
  /** The machine's network instead of none. Set by the administrator, never by a caller. */
  readonly network?: boolean;
  /**
   * A port of 127.0.0.1 inside, where no other network is, on which the gateway listens: see `SandboxChild.listener`.
   * Set by the administrator, never by a caller.
   */
  readonly listenPort?: number;
  /** Whether the child may make user namespaces of its own (Codex sandboxes its commands itself). */
  readonly nested?: boolean;
  readonly limits?: Partial<SandboxLimits>;
}

/** A long-running child with piped stdio. No process inside outlives it, nor this process. */
export interface SandboxChild {
  /** Pid of the sandbox's outermost process on this machine. */
  readonly pid: number;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /**
   * Listens on `listenPort` inside; the caller closes it. It listens some 50 ms after the start: a connection before is
   * refused. Rejects when the machine cannot do it. Undefined without `listenPort`.
   */
  readonly listener: Promise<Server> | undefined;
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
