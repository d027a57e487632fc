// The last measurement of one workspace. Decides when it must be measured again, and what processes in it may do.

import type { DiskLimits } from '../limits.ts';
import type { Workspace } from '../workspace/workspaces.ts';
import type { UsageMeter } from './disk-usage.ts';
import { type Free, hasLost } from './free-space.ts';
import type { Usage } from './small-usage.ts';

/**
 * What a process may do. `write`: everything. `delete`: it can delete, and create only empty files (file size limit 0).
 * `remove`: the workspace has grown even under `delete`, so it is read-only except for programs that can only delete.
 */
export type DiskAccess = 'write' | 'delete' | 'remove';

/** A process in a workspace. */
export interface WatchedProcess {
  readonly pid: number;
  readonly access: DiskAccess;
  /** Called when the process must end. */
  kill(): void;
  /** Another directory of the machine to which the process writes. */
  readonly writes?: string | undefined;
}

export interface MeasuredWorkspace {
  /** The processes that run in the workspace. */
  readonly watched: Set<WatchedProcess>;
  readonly isMeasuring: boolean;
  /** The workspace is not measured after every command. */
  readonly isLarge: boolean;
  /** Call it when the workspace may have changed since the last measurement. */
  changed(): void;
  /** Call it when a process in the workspace has ended. */
  ended(process: WatchedProcess): void;
  /**
   * Measures the workspace if the last measurement is out of date. Concurrent calls share a measurement; if a process
   * ends meanwhile, they wait for one more.
   */
  measure(free: Free): Promise<void>;
  /** What a process in the workspace may do, if the workspace may use this share of its limit. */
  access(share: number): DiskAccess;
}

/**
 * A workspace with more entries is not measured after every command. Measuring takes at most a twentieth of the time,
 * unless the free space of the disk shrinks.
 */
const ENTRIES_CHEAP = 2_000;
const REST_FACTOR = 20;
/**
 * Loss of free space since the last measurement, as a share of the workspace limits, after which another one is
 * necessary.
 */
const LOST_BETWEEN = 1 / 64;
/**
 * How much a full workspace may grow before that counts as growth: empty temporary files have names, and directories
 * get longer.
 */
const SLACK = { bytes: 1 << 20, entries: 100 };

/** `onMeasured` gets the bytes of each measurement. */
export function measureWorkspace(
  workspace: Workspace,
  meter: UsageMeter,
  limits: DiskLimits,
  onMeasured: (bytes: number) => void,
): MeasuredWorkspace {
  const watched = new Set<WatchedProcess>();
  let isDirty = true;
  let measuring: Promise<void> | undefined;
  let usage: Usage = { bytes: 0, entries: 0, isComplete: true };
  /** Whether a process with write access has ended since the last measurement. */
  let hadWriter = false;
  /** Set while the workspace is over its limit: its smallest size since the last process with write access ended. */
  let sizeWhenFull: { readonly bytes: number; readonly entries: number } | undefined;
  let measured: { readonly atMs: number; readonly tookMs: number; readonly free: Free } | undefined;

  return {
    watched,
    get isMeasuring() {
      return measuring !== undefined;
    },
    get isLarge() {
      return usage.entries > ENTRIES_CHEAP;
    },
    changed() {
      isDirty = true;
    },
    ended({ access }) {
      isDirty = true;
      hadWriter ||= access === 'write';
    },
    async measure(free) {
      while (measuring !== undefined || (isDirty && !canPostpone(free))) {
        measuring ??= measureNow(free).finally(() => {
          measuring = undefined;
        });
        await measuring;
      }
    },
    access(share) {
      const { bytes, entries, isComplete } = usage;
      const isFull = sizeWhenFull !== undefined;
      const hasGrown =
        sizeWhenFull !== undefined &&
        (entries > sizeWhenFull.entries + SLACK.entries || bytes > sizeWhenFull.bytes + SLACK.bytes);
      if (hasGrown || entries > 2 * limits.workspaceEntries) return 'remove';
      return isFull || !isComplete || share === 0 || bytes > limits.workspaceBytes * share ? 'delete' : 'write';
    },
  };

  async function measureNow(free: Free): Promise<void> {
    const { home, tmp } = workspace;
    const processes = [...watched];
    const more = processes.flatMap(({ writes }) => writes ?? []);
    const pids = processes.map(({ pid }) => pid);
    const hasWriter = hadWriter || processes.some(({ access }) => access === 'write');
    isDirty = false;
    hadWriter = false;
    const startedMs = performance.now();
    usage = await meter.measure([home, tmp, ...more], 2 * limits.workspaceEntries, pids);
    const atMs = performance.now();
    const { bytes, entries, isComplete } = usage;
    measured = { atMs, tookMs: atMs - startedMs, free };
    onMeasured(bytes);
    // An incomplete measurement counts as full in `access`, and does not show growth.
    if (!isComplete) return;
    if (bytes <= limits.workspaceBytes && entries <= limits.workspaceEntries) sizeWhenFull = undefined;
    else {
      const before = hasWriter ? undefined : sizeWhenFull;
      sizeWhenFull = {
        bytes: Math.min(before?.bytes ?? bytes, bytes),
        entries: Math.min(before?.entries ?? entries, entries),
      };
    }
  }

  /** Whether a workspace that is slow to measure cannot have grown much since the last measurement. */
  function canPostpone(free: Free): boolean {
    if (measured === undefined || usage.entries <= ENTRIES_CHEAP || sizeWhenFull !== undefined) return false;
    const isRecent = performance.now() - measured.atMs < measured.tookMs * REST_FACTOR;
    return isRecent && free.share === 1 && !hasLost(measured.free, free, LOST_BETWEEN, limits);
  }
}
