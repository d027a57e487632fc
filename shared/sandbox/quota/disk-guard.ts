// Enforces the disk limits of workspaces, and the reserve of the disk. Where the disk is memory, all workspaces share a
// limit (memory-disk.ts). The kernel limits the size of a file (RLIMIT_FSIZE) but not of a directory. So a workspace is
// measured after a process in it has ended and before the next command starts, and also while commands run if free
// space shrinks. Processes in a workspace over its limit are killed. The caller can still clean it up: commands may
// delete files, but not write.

import type { DiskLimits } from '../limits.ts';
import type { Workspace } from '../workspace/workspaces.ts';
import { createDiskSpace } from './disk-space.ts';
import { createUsageMeter } from './disk-usage.ts';
import type { Free } from './free-space.ts';
import {
  type DiskAccess,
  type MeasuredWorkspace,
  measureWorkspace,
  type WatchedProcess,
} from './measured-workspace.ts';
import { createRunningChecks } from './running-checks.ts';

export interface DiskGuard {
  /** Returns what a process that starts now may do. Waits for a measurement that is due. */
  admit(workspace: Workspace): Promise<DiskAccess>;
  /** Watches a running process. The caller calls the returned function when the process has ended. */
  watch(workspace: Workspace, process: WatchedProcess): () => void;
  /** The directories of a workspace were removed. */
  forget(home: string): void;
  close(): void;
}

/** Number of workspaces whose measurement is remembered; others are measured again before their next command. */
const STATES_MAX = 1_000;

export function createDiskGuard(directory: string, limits: DiskLimits): DiskGuard {
  const meter = createUsageMeter();
  const space = createDiskSpace(directory, limits, meter);
  const states = createStates((workspace) =>
    measureWorkspace(workspace, meter, limits, (bytes) => space.setSize(workspace.home, bytes)),
  );

  /** Measures a workspace, and returns what a process may do in it. */
  const accessOf = async (state: MeasuredWorkspace, free: Free): Promise<DiskAccess> => {
    await state.measure(free);
    // The new size of the workspace counts in the size of all of them.
    return state.access(limits.totalBytes === undefined ? free.share : (await space.read()).share);
  };

  /**
   * Undefined for a workspace that is not measured after every command: the space must be read, because the loss since
   * its last measurement counts there.
   */
  const recentFree = ({ isLarge }: MeasuredWorkspace): Free | undefined => (isLarge ? undefined : space.recent());

  const checks = createRunningChecks(limits, space, async (state, free) => {
    state.changed();
    killExcessive(state.watched, await accessOf(state, free));
  });

  return {
    async admit(workspace) {
      const state = states.of(workspace);
      await space.countPresent();
      return accessOf(state, recentFree(state) ?? (await space.read()));
    },
    watch(workspace, process) {
      const state = states.of(workspace);
      state.watched.add(process);
      checks.add(state);
      return () => {
        if (!state.watched.delete(process)) return;
        state.ended(process);
        // Not awaited, because the ended command need not wait. The next command waits for the measurement.
        const free = recentFree(state);
        if (free !== undefined) void state.measure(free);
        else void space.read().then((read) => state.measure(read));
        if (state.watched.size === 0) checks.remove(state);
      };
    },
    forget(home) {
      states.get(home)?.changed();
      space.forget(home);
    },
    close: () => meter.close(),
  };
}

/** Kills the processes that may do more than the workspace now allows. */
function killExcessive(watched: Iterable<WatchedProcess>, allowed: DiskAccess): void {
  for (const process of watched) {
    const { access } = process;
    if ((access === 'write' && allowed !== 'write') || (access === 'delete' && allowed === 'remove')) process.kill();
  }
}

/** The last measurements, by the home of the workspace. */
function createStates(measure: (workspace: Workspace) => MeasuredWorkspace): {
  get(home: string): MeasuredWorkspace | undefined;
  /** Adds the workspace if it is missing; it is the most recently used one then. */
  of(workspace: Workspace): MeasuredWorkspace;
} {
  const states = new Map<string, MeasuredWorkspace>();
  return {
    get: (home) => states.get(home),
    of(workspace) {
      const state = states.get(workspace.home) ?? measure(workspace);
      states.delete(workspace.home);
      states.set(workspace.home, state);
      for (const [home, { watched, isMeasuring }] of states) {
        if (states.size <= STATES_MAX) break;
        if (watched.size === 0 && !isMeasuring) states.delete(home);
      }
      return state;
    },
  };
}
