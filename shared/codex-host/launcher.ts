// The part of the Sandbox port that this module uses: it starts a process in the sandbox of a key.
import type { Server } from 'node:net';
import type { Readable, Writable } from 'node:stream';

/** Path in the sandbox of a BPF program for `bwrap --seccomp`. */
export const COMMAND_FILTER = '/etc/seccomp/command.bpf';

/** Paths are those in the sandbox, except `from`. */
export interface LaunchSpec {
  readonly keyId: string;
  readonly argv: readonly [string, ...string[]];
  readonly env: Readonly<Record<string, string>>;
  readonly readOnly: readonly { readonly from: string; readonly to: string }[];
  readonly writable: { readonly from: string; readonly to: string };
  /** The only port that the app-server can reach. Commands of the model run in Codex's own sandbox, without network. */
  readonly listenPort: number;
  /** Allows Codex's own sandbox. Its commands must run with the system call filter COMMAND_FILTER. */
  readonly nested: true;
}

export interface Launched {
  /** Pid of the outermost process; all others are its descendants. */
  readonly pid: number;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** The server that listens on `listenPort` in the sandbox. Rejects if the listening program cannot run. */
  readonly listener: Promise<Server> | undefined;
  /** Never rejects. */
  readonly exited: Promise<{ readonly exitCode: number }>;
  kill(graceMs?: number): Promise<void>;
}

/** `spawn` throws RpcError `sandbox_unavailable` if no sandbox works, `unavailable` when too many processes run. */
export interface Launcher {
  spawn(spec: LaunchSpec, options?: { readonly signal?: AbortSignal }): Promise<Launched>;
}
