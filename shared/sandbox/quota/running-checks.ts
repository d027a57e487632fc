// Checks the free space while commands run, and calls `enforce` for each of their workspaces when the space has shrunk,
// and at every 20th check: what others delete meanwhile hides what a command writes.

import type { DiskLimits } from '../limits.ts';
import type { DiskSpace } from './disk-space.ts';
import { type Free, hasLost } from './free-space.ts';
import type { MeasuredWorkspace } from './measured-workspace.ts';

export interface RunningChecks {
  /** A command runs in the workspace. */
  add(workspace: MeasuredWorkspace): void;
  /** No command runs in the workspace any more. */
  remove(workspace: MeasuredWorkspace): void;
}

/**
 * Loss of free space, as a share of the workspace limits, after which workspaces with running commands are measured
 * again.
 */
const LOST_RUNNING = 1 / 8;
/** Checks from one call of `enforce` to the next, if the free space does not shrink. */
const CHECKS_MAX = 20;
/** Checks are more frequent by this factor when the free space is near the reserve. */
const NEAR_FACTOR = 10;

export function createRunningChecks(
  limits: DiskLimits,
  space: DiskSpace,
  enforce: (workspace: MeasuredWorkspace, free: Free) => Promise<void>,
): RunningChecks {
  const active = new Set<MeasuredWorkspace>();
  /** The free space at the last check that has called `enforce`. */
  let checkedFree: Free | undefined;
  let checksSince = 0;
  let timer: NodeJS.Timeout | undefined;

  const schedule = (waitMs: number): void => {
    timer = setTimeout(() => void check(), waitMs);
  };

  const mustEnforce = (free: Free): boolean => {
    const isNearTotal = limits.totalBytes !== undefined && free.isNear;
    if (checkedFree === undefined || free.share < 1 || isNearTotal) return true;
    return hasLost(checkedFree, free, LOST_RUNNING, limits);
  };

  const check = async (): Promise<void> => {
    const free = await space.read();
    if (mustEnforce(free) || ++checksSince >= CHECKS_MAX) {
      checkedFree = free;
      checksSince = 0;
      await Promise.all([...active].map((workspace) => enforce(workspace, free)));
    }
    // A fast writer must not use up the reserve before the next check.
    if (active.size > 0) schedule(free.isNear ? limits.checkMs / NEAR_FACTOR : limits.checkMs);
    else timer = undefined;
  };

  return {
    add(workspace) {
      active.add(workspace);
      if (timer === undefined) schedule(limits.checkMs);
    },
    remove(workspace) {
      active.delete(workspace);
      if (active.size > 0) return;
      clearTimeout(timer);
      timer = undefined;
      checkedFree = undefined;
    },
  };
}
