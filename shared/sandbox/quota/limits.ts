// What one sandbox may use, as resource limits of the kernel (setrlimit(2)), and what a workspace may use of the disk.

export interface SandboxLimits {
  /** Processes and threads at a time. */
  readonly processes: number;
  /** Private writable memory of one process (RLIMIT_DATA). */
  readonly memoryBytes: number;
  /** Address space of one process. Wide, because runtimes reserve far more than they use; it bounds shared mappings. */
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

/** Lines of sh(1) that set them, hard and soft alike; no core dumps. Debian's sh calls `-p` what bash calls `-u`. */
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
