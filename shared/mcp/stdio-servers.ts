// The StdioServers port: starts processes that are MCP servers, and returns their standard streams. It contains no
// path, pid or descriptor of a machine, so the servers can run in another process. The command of a registered server,
// and what it may read and reach, are configured where it runs.
import type { Readable, Writable } from 'node:stream';

/** A server that the caller defines, or the name of one that the administrator registered. */
export type StdioServer =
  | {
      readonly command: string;
      readonly args: readonly string[];
      /** A caller's variables must be checked with `checkEnvironment` before. */
      readonly env: Readonly<Record<string, string>>;
    }
  | { readonly registered: string };

/** A running server. All of its processes end with it. */
export interface ServerProcess {
  /**
   * Id of the run of the sandbox in which the server was started. When the sandbox has another id, the server has
   * ended.
   */
  readonly bootId: string;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /**
   * Resolves when all of its processes have ended and the streams are closed. Never rejects. `failure` is set if the
   * connection to the sandbox ended, not the server itself; calls in flight fail with it.
   */
  readonly exited: Promise<{ readonly exitCode: number; readonly failure?: Error }>;
  /**
   * Sends TERM, and after `graceMs` (default 2000) KILL to all of its processes; with 0, KILL at once. Resolves when
   * `exited` does.
   */
  kill(graceMs?: number): Promise<void>;
}

export interface StdioServers {
  /** Whether new servers are started in this run of the sandbox, as far as that is known at this moment. */
  isCurrent(bootId: string): boolean;
  /**
   * Starts a server in the workspace of `owner`. `signal` aborts the start; it does not end a server that was returned.
   * Throws RpcError `not_found` for a name that is not registered, `sandbox_unavailable`, `unavailable` when too many
   * processes run, `invalid_params` for an argument list that is too long for the kernel, and the signal's reason when
   * it aborts.
   */
  start(owner: string, server: StdioServer, signal: AbortSignal): Promise<ServerProcess>;
}
