// Enforces the disk limits of workspaces, and the reserve of the disk. Where the disk is memory, all workspaces share a
// limit (memory-disk.ts). The kernel limits the size of a file (RLIMIT_FSIZE) but not of a directory. So a workspace is
// measured after a process in it has ended and before the next command starts, and also while commands run if free
// space shrinks. Processes in a workspace over its limit are killed. The caller can still clean it up: commands may
// delete files, but not write.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Workspace } from '../workspaces.ts';
import { createUsageMeter } from './disk-usage.ts';
import { type Free, freeSpace, hasLost } from './free-space.ts';
import type { DiskLimits } from './limits.ts';
import {
  type DiskAccess,
  type MeasuredWorkspace,
  measureWorkspace,
  type WatchedProcess,
} from './measured-workspace.ts';

export interface DiskGuard {
  /** Returns what a process that starts now may do. Waits for a measurement that is due. */
  admit(workspace: Workspace): Promise<DiskAccess>;
  /** Watches a running process. The caller calls the returned function when the process has ended. */
  watch(workspace: Workspace, process: WatchedProcess): () => void;
  /** The directories of a workspace were removed. */
  forget(home: string): void;
  close(): void;
}

/**
 * Loss of free space, as a share of the workspace limits, after which workspaces with running commands are measured
 * again.
 */
const LOST_RUNNING = 1 / 8;
/** Checks are more frequent by this factor when the free space is near the reserve. */
const NEAR_FACTOR = 10;
/** Number of workspaces whose measurement is remembered; others are measured again before their next command. */
const STATES_MAX = 1_000;

export function createDiskGuard(directory: string, limits: DiskLimits): DiskGuard {
  const states = new Map<string, MeasuredWorkspace>();
  const active = new Set<MeasuredWorkspace>();
  /** Bytes of every workspace, by its home. */
  const sizes = new Map<string, number>();
  const meter = createUsageMeter();
  let checkedFree: Free | undefined;
  let known: { readonly free: Free; readonly atMs: number } | undefined;
  let counted: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;

  return {
    async admit(workspace) {
      const state = stateOf(workspace);
      counted ??= countPresent();
      await counted;
      return accessOf(state, recentFree(state) ?? (await readFree()));
    },
    watch(workspace, process) {
      const state = stateOf(workspace);
      state.watched.add(process);
      active.add(state);
      if (timer === undefined) schedule(limits.checkMs);
      return () => {
        if (!state.watched.delete(process)) return;
        state.ended(process);
        // Not awaited, because the ended command need not wait. The next command waits for the measurement.
        const free = recentFree(state);
        if (free !== undefined) void state.measure(free);
        else void readFree().then((read) => state.measure(read));
        if (state.watched.size > 0) return;
        active.delete(state);
        if (active.size > 0) return;
        clearTimeout(timer);
        timer = undefined;
        checkedFree = undefined;
      };
    },
    forget(home) {
      states.get(home)?.changed();
      sizes.delete(home);
    },
    close: () => meter.close(),
  };

  /** Measures a workspace, and returns what a process may do in it. */
  async function accessOf(state: MeasuredWorkspace, free: Free): Promise<DiskAccess> {
    await state.measure(free);
    // The new size of the workspace counts in the size of all of them.
    return state.access(limits.totalBytes === undefined ? free.share : (await readFree()).share);
  }

  /** Kills the processes that may do more than the workspace now allows. */
  async function enforce(state: MeasuredWorkspace, free: Free): Promise<void> {
    state.changed();
    const allowed = await accessOf(state, free);
    for (const process of state.watched) {
      const { access } = process;
      if ((access === 'write' && allowed !== 'write') || (access === 'delete' && allowed === 'remove')) process.kill();
    }
  }

  async function readFree(): Promise<Free> {
    const used = limits.totalBytes === undefined ? 0 : [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
    const free = await freeSpace(directory, limits, used);
    known = { free, atMs: performance.now() };
    return free;
  }

  /**
   * The last value, if it is not older than it may be for a running process. Undefined near the reserve, and for a
   * workspace that is not measured after every command: the loss since its last measurement counts there.
   */
  function recentFree({ isLarge }: MeasuredWorkspace): Free | undefined {
    if (known === undefined || known.free.isNear || isLarge) return undefined;
    return performance.now() - known.atMs < limits.checkMs ? known.free : undefined;
  }

  /** The workspaces that an earlier process has left count before their owners use them again. */
  async function countPresent(): Promise<void> {
    if (limits.totalBytes === undefined) return;
    const names = await readdir(directory).catch(() => []);
    await Promise.all(
      names.map(async (name) => {
        const { bytes } = await meter.measure([join(directory, name)], 2 * limits.workspaceEntries);
        const home = join(directory, name, 'home');
        if (!sizes.has(home)) sizes.set(home, bytes);
      }),
    );
  }

  function stateOf(workspace: Workspace): MeasuredWorkspace {
    const { home: own } = workspace;
    const state = states.get(own) ?? measureWorkspace(workspace, meter, limits, (bytes) => void sizes.set(own, bytes));
    states.delete(workspace.home);
    states.set(workspace.home, state);
    for (const [home, { watched, isMeasuring }] of states) {
      if (states.size <= STATES_MAX) break;
      if (watched.size === 0 && !isMeasuring) states.delete(home);
    }
    return state;
  }

  function schedule(waitMs: number): void {
    timer = setTimeout(() => void check(), waitMs);
  }

  async function check(): Promise<void> {
    const free = await readFree();
    const isNearTotal = limits.totalBytes !== undefined && free.isNear;
    if (
      checkedFree === undefined ||
      free.share < 1 ||
      isNearTotal ||
      hasLost(checkedFree, free, LOST_RUNNING, limits)
    ) {
      checkedFree = free;
      await Promise.all([...active].map((state) => enforce(state, free)));
    }
    // A fast writer must not use up the reserve before the next check.
    if (active.size > 0) schedule(free.isNear ? limits.checkMs / NEAR_FACTOR : limits.checkMs);
    else timer = undefined;
  }
}
