// How the host starts a process: inside the sandbox of a key. The Sandbox port has this shape.
import type { Server } from 'node:net';
import type { Readable, Writable } from 'node:stream';

/** Path inside, of a BPF program for `bwrap --seccomp`. */
export const COMMAND_FILTER = '/etc/seccomp/command.bpf';

/** Paths are as seen inside the sandbox, except `from`. */
export interface LaunchSpec {
  readonly keyId: string;
  readonly argv: readonly [string, ...string[]];
  readonly env: Readonly<Record<string, string>>;
  readonly readOnly: readonly { readonly from: string; readonly to: string }[];
  readonly writable: { readonly from: string; readonly to: string };
  /** The only port that is reached inside. Commands of the model run in Codex's own sandbox, without network. */
  readonly listenPort: number;
  /** For Codex's own sandbox. COMMAND_FILTER is the system call filter that its commands must get. */
  readonly nested: true;
}

export interface Launched {
  /** Outermost process; all others are its descendants. */
  readonly pid: number;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Listens on `listenPort` inside. Rejects where the machine cannot do it. */
  readonly listener: Promise<Server> | undefined;
  /** Never rejects. */
  readonly exited: Promise<{ readonly exitCode: number }>;
  kill(graceMs?: number): Promise<void>;
}

/** Throws RpcError `sandbox_unavailable` where no sandbox works, `unavailable` when too many processes run. */
export interface Launcher {
  spawn(spec: LaunchSpec, options?: { readonly signal?: AbortSignal }): Promise<Launched>;
}
