// The resource limits of a sandbox, set by setrlimit(2), and the disk limits of a workspace.

export interface SandboxLimits {
  /** Concurrent processes and threads. */
  readonly processes: number;
  /** Private writable memory of one process (RLIMIT_DATA). */
  readonly memoryBytes: number;
  /**
   * Address space of one process. The limit is high, because runtimes reserve far more than they use; it bounds shared
   * mappings.
   */
  readonly addressBytes: number;
  /** Size of one file. */
  readonly fileBytes: number;
  readonly openFiles: number;
  /** Processor time of one process. */
  readonly cpuSeconds: number;
}

export const DEFAULT_LIMITS: SandboxLimits = {
  processes: 128,
  memoryBytes: 1 << 30,
  addressBytes: 2 ** 36,
  fileBytes: 256 << 20,
  openFiles: 1024,
  cpuSeconds: 600,
};

/** Limits of a long-running child whose spec sets none. */
export const LONG_RUNNING_LIMITS: SandboxLimits = { ...DEFAULT_LIMITS, cpuSeconds: 86_400 };

/**
 * Commands of sh(1) that set the hard and the soft limits, and disable core dumps. The option for processes is `-p` in
 * Debian's sh and `-u` in bash.
 */
export function toUlimits(limits: SandboxLimits): string {
  return [
    'ulimit -c 0',
    `ulimit -t ${limits.cpuSeconds}`,
    `ulimit -n ${limits.openFiles}`,
    `ulimit -d ${Math.floor(limits.memoryBytes / 1024)}`,
    `ulimit -v ${Math.floor(limits.addressBytes / 1024)}`,
    `ulimit -f ${Math.floor(limits.fileBytes / 512)}`,
    `{ ulimit -p ${limits.processes} 2>/dev/null || ulimit -u ${limits.processes}; }`,
  ].join(' && ');
}

export interface DiskLimits {
  /** Size on disk of one workspace. */
  readonly workspaceBytes: number;
  /** Files and directories of one workspace. */
  readonly workspaceEntries: number;
  /**
   * Free space that is reserved for the store and the rest of the machine; at most a twentieth of the disk. With less
   * free space than this, a workspace may use a tenth of its limit; with less than half of it, a hundredth; with less
   * than an eighth, nothing may be written.
   */
  readonly reserveBytes: number;
  /**
   * Maximum size of all workspaces together, with the directories that their processes write to beside them; undefined:
   * as much as the disk has.
   */
  readonly totalBytes?: number;
  /** Interval of the checks of free space while commands run. */
  readonly checkMs: number;
}

export const DISK_LIMITS: DiskLimits = {
  workspaceBytes: 2 ** 30,
  workspaceEntries: 100_000,
  reserveBytes: 512 << 20,
  checkMs: 100,
};
