// Keeps workspaces within their share of the disk, and the disk from filling up. The kernel bounds one file
// (RLIMIT_FSIZE) but not a directory: a workspace is measured when a process in it has ended, before the next command
// starts, and while commands run when free space shrinks. Processes in a workspace over its limit are killed. It can
// still be cleaned up: its commands may delete, but not write.
import { statfs } from 'node:fs/promises';
import type { Workspace } from '../workspaces.ts';
import { createUsageMeter } from './disk-usage.ts';

export interface DiskLimits {
  /** Blocks on disk of one workspace. */
  readonly workspaceBytes: number;
  /** Files and directories of one workspace. */
  readonly workspaceEntries: number;
  /**
   * Free space reserved for the store and the rest of the machine, at most a twentieth of the disk: with less, a
   * workspace may have a tenth of its share, with half of it a hundredth, with an eighth nothing may be written.
   */
  readonly reserveBytes: number;
  readonly checkMs: number;
}

export const DISK_LIMITS: DiskLimits = {
  workspaceBytes: 2 ** 30,
  workspaceEntries: 100_000,
  reserveBytes: 512 << 20,
  checkMs: 100,
};

/**
 * What a process may do: `write`; `delete`: it can create empty files only; `remove`: the workspace is read-only except
 * for programs that can only delete, because it has grown under `delete`.
 */
export type DiskAccess = 'write' | 'delete' | 'remove';

export interface DiskGuard {
  /** What a process that starts now may do; waits for the measurement that follows the end of a process. */
  admit(workspace: Workspace): Promise<DiskAccess>;
  /** Watches a running process. Call the result when it has ended. */
  watch(workspace: Workspace, process: WatchedProcess): () => void;
  close(): void;
}

/** A process in a workspace. */
export interface WatchedProcess {
  readonly pid: number;
  readonly access: DiskAccess;
  /** Called when it must end. */
  kill(): void;
  /** A directory of the machine that it writes to, in addition to the workspace. */
  readonly writes?: string | undefined;
}

interface Free {
  readonly bytes: number;
  readonly entries: number;
  /** Share of the limit that a workspace may have at this fill level of the disk. */
  readonly share: number;
  /** Less than NEAR_RESERVES times the reserve is left. */
  readonly isNear: boolean;
}

/** State of a workspace. */
interface State {
  readonly workspace: Workspace;
  readonly watched: Set<WatchedProcess>;
  /** It may have changed since the last measurement. */
  isDirty: boolean;
  measuring: Promise<void> | undefined;
  bytes: number;
  entries: number;
  isComplete: boolean;
  /** A process that could write has ended since the last measurement. */
  wasWritten: boolean;
  /** While it is over its limit: its smallest size since only deleting processes have run in it. */
  full: { bytes: number; entries: number } | undefined;
  measured: { readonly atMs: number; readonly tookMs: number; readonly free: Free } | undefined;
}

/**
 * Loss of free space since the last measurement, as a share of the limits, that makes another one necessary: while
 * commands run, and between commands.
 */
const LOST_RUNNING = 1 / 8;
const LOST_BETWEEN = 1 / 64;
/**
 * A workspace with more entries is not measured for every command: at most a twentieth of the time, unless the disk
 * loses space.
 */
const ENTRIES_CHEAP = 2_000;
const REST_FACTOR = 20;
/** With less free space than this many times the reserve, checks are more frequent. */
const NEAR_RESERVES = 4;
const NEAR_FACTOR = 10;
/**
 * What a command may add to a full workspace before that counts as growth: names of temporary files, a longer
 * directory.
 */
const SLACK = { bytes: 1 << 20, entries: 100 };
/** Workspaces with a cached state; others are measured again before their next command. */
const STATES_MAX = 1_000;

export function createDiskGuard(directory: string, limits: DiskLimits = DISK_LIMITS): DiskGuard {
  const states = new Map<string, State>();
  const active = new Set<State>();
  const timings = createUsageMeter();
  let checkedFree: Free | undefined;
  let timer: NodeJS.Timeout | undefined;

  return {
    async admit(workspace) {
      const state = stateOf(workspace);
      const free = await freeSpace();
      await measure(state, free);
      return accessOf(state, free.share);
    },
    watch(workspace, process) {
      const state = stateOf(workspace);
      state.watched.add(process);
      active.add(state);
      if (timer === undefined) schedule(limits.checkMs);
      return () => {
        if (!state.watched.delete(process)) return;
        state.isDirty = true;
        state.wasWritten ||= process.access === 'write';
        // Not awaited: the ended command returns at once, and the next command waits for the measurement.
        void freeSpace().then((free) => measure(state, free));
        if (state.watched.size > 0) return;
        active.delete(state);
        if (active.size > 0) return;
        clearTimeout(timer);
        timer = undefined;
        checkedFree = undefined;
      };
    },
    close: () => timings.close(),
  };

  function stateOf(workspace: Workspace): State {
    const known = states.get(workspace.home);
    const state: State = known ?? {
      workspace,
      watched: new Set(),
      isDirty: true,
      measuring: undefined,
      bytes: 0,
      entries: 0,
      isComplete: true,
      wasWritten: false,
      full: undefined,
      measured: undefined,
    };
    states.delete(workspace.home);
    states.set(workspace.home, state);
    for (const [home, { watched, measuring }] of states) {
      if (states.size <= STATES_MAX) break;
      if (watched.size === 0 && measuring === undefined) states.delete(home);
    }
    return state;
  }

  /** A failure to read the free space stops no command: when space runs out, the commands themselves get the error. */
  async function freeSpace(): Promise<Free> {
    try {
      const { blocks, bavail, bsize, ffree } = await statfs(directory);
      const reserve = Math.min(limits.reserveBytes, (blocks * bsize) / 20);
      const bytes = bavail * bsize;
      const share = bytes >= reserve ? 1 : bytes >= reserve / 2 ? 1 / 10 : bytes >= reserve / 8 ? 1 / 100 : 0;
      return { bytes, entries: ffree, share, isNear: bytes < reserve * NEAR_RESERVES };
    } catch {
      return { bytes: 0, entries: 0, share: 1, isNear: false };
    }
  }

  function schedule(waitMs: number): void {
    timer = setTimeout(() => void check(), waitMs);
  }

  async function check(): Promise<void> {
    const free = await freeSpace();
    if (checkedFree === undefined || free.share < 1 || hasLost(checkedFree, free, LOST_RUNNING)) {
      checkedFree = free;
      await Promise.all([...active].map((state) => enforce(state, free)));
    }
    // A fast writer must not use up the reserve before the next check.
    if (active.size > 0) schedule(free.isNear ? limits.checkMs / NEAR_FACTOR : limits.checkMs);
    else timer = undefined;
  }

  async function enforce(state: State, free: Free): Promise<void> {
    state.isDirty = true;
    await measure(state, free);
    const allowed = accessOf(state, free.share);
    for (const process of state.watched) {
      const { access } = process;
      if ((access === 'write' && allowed !== 'write') || (access === 'delete' && allowed === 'remove')) process.kill();
    }
  }

  function accessOf({ bytes, entries, isComplete, full }: State, share: number): DiskAccess {
    const isFull = full !== undefined;
    const hasGrown = isFull && (entries > full.entries + SLACK.entries || bytes > full.bytes + SLACK.bytes);
    if (hasGrown || entries > 2 * limits.workspaceEntries) return 'remove';
    return isFull || !isComplete || share === 0 || bytes > limits.workspaceBytes * share ? 'delete' : 'write';
  }

  /** Calls during a measurement wait for it and, if a process has ended meanwhile, share one more. */
  async function measure(state: State, free: Free): Promise<void> {
    while (state.measuring !== undefined || (state.isDirty && !canWait(state, free))) {
      state.measuring ??= take(state, free).finally(() => {
        state.measuring = undefined;
      });
      await state.measuring;
    }
  }

  async function take(state: State, free: Free): Promise<void> {
    const { home, tmp } = state.workspace;
    const processes = [...state.watched];
    const more = processes.flatMap(({ writes }) => writes ?? []);
    const pids = processes.map(({ pid }) => pid);
    const wasWritten = state.wasWritten || processes.some(({ access }) => access === 'write');
    state.isDirty = false;
    state.wasWritten = false;
    const startedMs = performance.now();
    const usage = await timings.measure([home, tmp, ...more], 2 * limits.workspaceEntries, pids);
    const atMs = performance.now();
    const { bytes, entries, isComplete } = usage;
    Object.assign(state, usage, { measured: { atMs, tookMs: atMs - startedMs, free } });
    // An incomplete measurement counts as full in `accessOf`, and is no evidence of growth.
    if (!isComplete) return;
    if (bytes <= limits.workspaceBytes && entries <= limits.workspaceEntries) state.full = undefined;
    else {
      const full = wasWritten ? undefined : state.full;
      state.full = {
        bytes: Math.min(full?.bytes ?? bytes, bytes),
        entries: Math.min(full?.entries ?? entries, entries),
      };
    }
  }

  /** Whether a workspace that is slow to measure cannot have grown by much since the last measurement. */
  function canWait({ measured, entries, full }: State, free: Free): boolean {
    if (measured === undefined || entries <= ENTRIES_CHEAP || full !== undefined) return false;
    const isRecent = performance.now() - measured.atMs < measured.tookMs * REST_FACTOR;
    return isRecent && free.share === 1 && !hasLost(measured.free, free, LOST_BETWEEN);
  }

  function hasLost(before: Free, now: Free, share: number): boolean {
    const { workspaceBytes, workspaceEntries } = limits;
    return before.bytes - now.bytes > workspaceBytes * share || before.entries - now.entries > workspaceEntries * share;
  }
}
