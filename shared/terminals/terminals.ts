// The Terminals port. A caller names a terminal by a handle and receives plain data about it, no process or descriptor.
// So terminals can run in another process (the sandbox service), and every gateway process can serve every terminal.
// They end with the process that runs them.

/** Identifies one terminal: a session id of a key. */
export interface TerminalHandle {
  readonly owner: string;
  readonly sessionId: string;
}

export interface Size {
  readonly cols: number;
  readonly rows: number;
}

export interface TerminalRequest extends Partial<Size> {
  /** The program to run; undefined: bash if it is installed, else sh. */
  readonly shell: string | undefined;
  readonly cwd: string | undefined;
  readonly env: Readonly<Record<string, string>>;
  /** Id of the call that starts the terminal, for the log. */
  readonly requestId: string;
  /** A terminal that does not run is not started: `start` throws `not_found`. Default: false. */
  readonly onlyRunning?: boolean;
}

export interface TerminalFacts extends Size {
  /** Number of the last piece of output. */
  readonly seq: number;
}

/** How a terminal ended, for the log. The process that runs the terminal emits it once. */
export interface TerminalEnding extends TerminalHandle {
  /** Id of the call that started the terminal. */
  readonly requestId: string;
  /** The program that was requested, if any. */
  readonly argv: readonly string[];
  readonly exitCode: number;
  readonly durationMs: number;
}

/**
 * Receives the output of a terminal. The next piece is sent when the promise that the previous call returned has
 * settled.
 */
export interface Watcher {
  /** `seq` is the number of the last piece in `data`; `missed`: pieces before it were dropped. */
  output(piece: { readonly seq: number; readonly data: string; readonly missed: boolean }): void | Promise<void>;
  /** Called last, once. */
  exit(exitCode: number): void | Promise<void>;
}

/** Stops a watcher. `leftAgoMs`: how long ago its reader was last reachable; the watcher counts as gone since then. */
export type StopWatching = (leftAgoMs?: number) => void;

/**
 * Every method that takes a handle throws the same RpcError `not_found` for a terminal that does not exist, has ended
 * or belongs to another key, and `sandbox_unavailable` where no terminal can run.
 */
export interface Terminals {
  /**
   * Returns the running terminal of this handle, resized to the requested size, or starts a new one. Throws
   * `sandbox_unavailable`, `unavailable` when there are too many, `invalid_params` for a cwd that does not exist.
   */
  start(handle: TerminalHandle, request: TerminalRequest): Promise<TerminalFacts & { readonly resumed: boolean }>;
  /** Throws `unavailable` when the program in the terminal does not read its input. */
  input(handle: TerminalHandle, data: string): Promise<TerminalFacts>;
  resize(handle: TerminalHandle, size: Size): Promise<TerminalFacts>;
  /**
   * Sends the output after piece `afterSeq`, then live output, then the exit. This also works for a while after the
   * terminal has ended, because a terminal may end before the caller that started it can watch it. Resolves with a
   * function that stops the watcher.
   */
  watch(handle: TerminalHandle, watcher: Watcher, afterSeq: number): Promise<StopWatching>;
  /** Ends the terminal. Resolves when all of its processes have ended. */
  close(handle: TerminalHandle): Promise<{ readonly exitCode: number }>;
  /** Ends all terminals and refuses new ones. */
  drain(): Promise<void>;
}
