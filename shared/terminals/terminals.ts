// The Terminals port: terminals by handle, described by facts, so that they may run in another process and any gateway
// process serves any of them. They end with the process that runs them.

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
  /** A program; bash, else sh, when undefined. */
  readonly shell: string | undefined;
  readonly cwd: string | undefined;
  readonly env: Readonly<Record<string, string>>;
  /** The call that starts it, for the log. */
  readonly requestId: string;
}

export interface TerminalFacts extends Size {
  /** Number of the last piece of output. */
  readonly seq: number;
}

/** How a terminal ended, for the log: emitted once for each, by the process that runs it. */
export interface TerminalEnding extends TerminalHandle {
  /** Of the call that started it. */
  readonly requestId: string;
  /** The program that was requested, if any. */
  readonly argv: readonly string[];
  readonly exitCode: number;
  readonly durationMs: number;
}

/** Receives the output of a terminal; while a promise it returns is pending, the next piece waits. */
export interface Watcher {
  /** `seq` is the number of the last piece in `data`; `missed`: pieces before it were dropped. */
  output(piece: { readonly seq: number; readonly data: string; readonly missed: boolean }): void | Promise<void>;
  /** The last call. */
  exit(exitCode: number): void | Promise<void>;
}

/** Stops a watcher. `leftAgoMs`: its reader was not heard from for so long, and counts as gone since then. */
export type StopWatching = (leftAgoMs?: number) => void;

/**
 * Every method that takes a handle throws the same RpcError `not_found` for a terminal that is missing, has ended or
 * belongs to another key, and `sandbox_unavailable` where no terminal can run.
 */
export interface Terminals {
  /**
   * Describes the running terminal of this handle, resized as requested, else a new one. Throws `sandbox_unavailable`,
   * `unavailable` when there are too many, `invalid_params` for a cwd that does not exist.
   */
  start(handle: TerminalHandle, request: TerminalRequest): Promise<TerminalFacts & { readonly resumed: boolean }>;
  /** Throws `unavailable` when the program in the terminal does not read its input. */
  input(handle: TerminalHandle, data: string): Promise<TerminalFacts>;
  resize(handle: TerminalHandle, size: Size): Promise<TerminalFacts>;
  /**
   * Sends everything after piece `afterSeq`, then live output, then the exit; for some time also of a terminal that has
   * ended, because it may end before the caller that started it can watch. Resolves with a function that stops it.
   */
  watch(handle: TerminalHandle, watcher: Watcher, afterSeq: number): Promise<StopWatching>;
  /** Resolves when all of its processes have ended. */
  close(handle: TerminalHandle): Promise<{ readonly exitCode: number }>;
  /** Ends the terminal of a session, if there is one. */
  endSession(handle: TerminalHandle): Promise<void>;
  /** Ends all terminals and refuses new ones. */
  drain(): Promise<void>;
}
