// The StdioServers port: processes that are MCP servers, with their standard streams. Contains no path, pid or
// descriptor of a machine, so that they may run in another process: what a registered server is, may read and may reach
// is configured where it runs.
import type { Readable, Writable } from 'node:stream';

/** A server of the caller's, or the name of one that the administrator registered. */
export type StdioServer =
  | {
      readonly command: string;
      readonly args: readonly string[];
      /** Check a caller's with `checkEnvironment` first. */
      readonly env: Readonly<Record<string, string>>;
    }
  | { readonly registered: string };

/** A running server. No process of it outlives it. */
export interface ServerProcess {
  /** Names the run of the sandbox in which it was started: with another run, it has ended. */
  readonly bootId: string;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /**
   * Resolves when all of its processes have ended and the streams are closed. Never rejects. `failure`: what ended
   * them, when it was not the server: the error of calls in flight.
   */
  readonly exited: Promise<{ readonly exitCode: number; readonly failure?: Error }>;
  /** TERM, then KILL of all of its processes after `graceMs` (2000); 0 kills at once. Resolves with `exited`. */
  kill(graceMs?: number): Promise<void>;
}

export interface StdioServers {
  /**
   * Starts a server in the workspace of `owner`. `signal` ends the start, not a server that was returned. Throws
   * RpcError `not_found` for a name that is not registered, `sandbox_unavailable`, `unavailable` when too many
   * processes run, `invalid_params` for an argument list that the kernel refuses; the signal's reason when it is
   * aborted.
   */
  start(owner: string, server: StdioServer, signal: AbortSignal): Promise<ServerProcess>;
}
