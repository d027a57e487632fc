// The messages between the gateway and the helper process that starts sandboxes (spawner.ts, spawn-helper.ts).

/** Directories of a control group, and of the group that the helper moves to when it leaves that one. */
export interface Cgroup {
  readonly path: string;
  readonly home: string;
}

/**
 * To the helper: start this. Descriptors: 0 to 2 streams or the terminal, 3 status, 4 `input`, from 5 on `files`; no
 * others.
 */
export interface SpawnRequest {
  readonly id: number;
  readonly file: string;
  readonly args: readonly string[];
  readonly hasStdin: boolean;
  /** Path of a terminal that replaces the three streams. */
  readonly tty?: string | undefined;
  readonly input: string;
  /** Files of the machine, opened for reading. */
  readonly files: readonly string[];
  /** Whether the descriptor after `files` is a channel of Node, on which the process sends a listening socket. */
  readonly hasListener: boolean;
  /** User and group of the process; default: the helper's own. */
  readonly uid?: number | undefined;
  /** The control group of the process; default: the helper's current one. */
  readonly cgroup?: Cgroup | undefined;
}

/** To the helper: leave this control group, if in it. */
export interface LeaveRequest {
  readonly leave: string;
}

/** To the helper: KILL the process started under this id. */
export interface KillRequest {
  readonly id: number;
  readonly kill: true;
}

/**
 * From the helper, in this order: one `error`, or `stream`s, each with its handle, then lines of `status` and one
 * `exit`. `listener` comes at any time, with its handle where there is one.
 */
export type SpawnReport =
  | { readonly id: number; readonly error: string }
  | { readonly id: number; readonly pid: number; readonly stream: 'stdin' | 'stdout' | 'stderr' }
  | { readonly id: number; readonly listener: boolean }
  | { readonly id: number; readonly status: string }
  | { readonly id: number; readonly exit: { readonly code: number | null; readonly signal: NodeJS.Signals | null } };
