// One workspace as it was last measured, when it must be measured again, and what may run in it.
import type { Workspace } from '../workspaces.ts';
import type { Usage, UsageMeter } from './disk-usage.ts';
import { type Free, hasLost } from './free-space.ts';
import type { DiskLimits } from './limits.ts';

/**
 * What a process may do: `write`; `delete`: it can create empty files only; `remove`: the workspace is read-only except
 * for programs that can only delete, because it has grown under `delete`.
 */
export type DiskAccess = 'write' | 'delete' | 'remove';

/** A process in a workspace. */
export interface WatchedProcess {
  readonly pid: number;
  readonly access: DiskAccess;
  /** Called when it must end. */
  kill(): void;
  /** A directory of the machine that it writes to, in addition to the workspace. */
  readonly writes?: string | undefined;
}

export interface MeasuredWorkspace {
  /** The processes that run in it. */
  readonly watched: Set<WatchedProcess>;
  readonly isMeasuring: boolean;
  /** It may have changed since the last measurement. */
  changed(): void;
  /** A process has ended in it. */
  ended(process: WatchedProcess): void;
  /**
   * Resolves when the last measurement holds. Calls during a measurement wait for it and, if a process has ended
   * meanwhile, share one more.
   */
  measure(free: Free): Promise<void>;
  /** What a process in it may do while the disk leaves it this share of its limit. */
  access(share: number): DiskAccess;
}

/**
 * A workspace with more entries is not measured for every command: at most a twentieth of the time, unless the disk
 * loses space.
 */
const ENTRIES_CHEAP = 2_000;
const REST_FACTOR = 20;
/** Loss of free space since the last measurement, as a share of the limits, that makes another one necessary. */
const LOST_BETWEEN = 1 / 64;
/**
 * What a command may add to a full workspace before that counts as growth: names of temporary files, a longer
 * directory.
 */
const SLACK = { bytes: 1 << 20, entries: 100 };

export function measureWorkspace(workspace: Workspace, meter: UsageMeter, limits: DiskLimits): MeasuredWorkspace {
  const watched = new Set<WatchedProcess>();
  let isDirty = true;
  let measuring: Promise<void> | undefined;
  let usage: Usage = { bytes: 0, entries: 0, isComplete: true };
  /** A process that could write has ended since the last measurement. */
  let wasWritten = false;
  /** While it is over its limit: its smallest size since only deleting processes have run in it. */
  let full: { readonly bytes: number; readonly entries: number } | undefined;
  let measured: { readonly atMs: number; readonly tookMs: number; readonly free: Free } | undefined;

  return {
    watched,
    get isMeasuring() {
      return measuring !== undefined;
    },
    changed() {
      isDirty = true;
    },
    ended({ access }) {
      isDirty = true;
      wasWritten ||= access === 'write';
    },
    async measure(free) {
      while (measuring !== undefined || (isDirty && !canWait(free))) {
        measuring ??= take(free).finally(() => {
          measuring = undefined;
        });
        await measuring;
      }
    },
    access(share) {
      const { bytes, entries, isComplete } = usage;
      const isFull = full !== undefined;
      const hasGrown =
        full !== undefined && (entries > full.entries + SLACK.entries || bytes > full.bytes + SLACK.bytes);
      if (hasGrown || entries > 2 * limits.workspaceEntries) return 'remove';
      return isFull || !isComplete || share === 0 || bytes > limits.workspaceBytes * share ? 'delete' : 'write';
    },
  };

  async function take(free: Free): Promise<void> {
    const { home, tmp } = workspace;
    const processes = [...watched];
    const more = processes.flatMap(({ writes }) => writes ?? []);
    const pids = processes.map(({ pid }) => pid);
    const isWritten = wasWritten || processes.some(({ access }) => access === 'write');
    isDirty = false;
    wasWritten = false;
    const startedMs = performance.now();
    usage = await meter.measure([home, tmp, ...more], 2 * limits.workspaceEntries, pids);
    const atMs = performance.now();
    const { bytes, entries, isComplete } = usage;
    measured = { atMs, tookMs: atMs - startedMs, free };
    // An incomplete measurement counts as full in `access`, and is no evidence of growth.
    if (!isComplete) return;
    if (bytes <= limits.workspaceBytes && entries <= limits.workspaceEntries) full = undefined;
    else {
      const before = isWritten ? undefined : full;
      full = {
        bytes: Math.min(before?.bytes ?? bytes, bytes),
        entries: Math.min(before?.entries ?? entries, entries),
      };
    }
  }

  /** Whether a workspace that is slow to measure cannot have grown by much since the last measurement. */
  function canWait(free: Free): boolean {
    if (measured === undefined || usage.entries <= ENTRIES_CHEAP || full !== undefined) return false;
    const isRecent = performance.now() - measured.atMs < measured.tookMs * REST_FACTOR;
    return isRecent && free.share === 1 && !hasLost(measured.free, free, LOST_BETWEEN, limits);
  }
}
