// The messages between the gateway and the helper process that starts sandboxes (spawner.ts, spawn-helper.ts).

/**
 * Directories of a control group (`path`), and of the group of the gateway (`gatewayGroup`), to which the helper moves
 * when it leaves.
 */
export interface Cgroup {
  readonly path: string;
  readonly gatewayGroup: string;
}

/**
 * To the helper: it starts a process, whose descriptors are 0 to 2 streams or the terminal, 3 status, 4 `input`, from 5
 * on `files`, and no others.
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

/** To the helper: it moves out of this control group, if it is in it. */
export interface LeaveRequest {
  readonly leave: string;
}

/** To the helper: it sends KILL to the process with this id. */
export interface KillRequest {
  readonly id: number;
  readonly kill: true;
}

/**
 * From the helper, in this order: either one `error`; or each `stream` with its handle, then lines of `status`, then
 * one `exit`. A `listener` can come at any time, with its handle if it is true.
 */
export type SpawnReport =
  | { readonly id: number; readonly error: string }
  | { readonly id: number; readonly pid: number; readonly stream: 'stdin' | 'stdout' | 'stderr' }
  | { readonly id: number; readonly listener: boolean }
  | { readonly id: number; readonly status: string }
  | { readonly id: number; readonly exit: { readonly code: number | null; readonly signal: NodeJS.Signals | null } };
