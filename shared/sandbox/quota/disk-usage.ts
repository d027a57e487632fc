// Measures directories in a separate thread, so that a large one delays neither the event loop nor other measurements.
import { Worker } from 'node:worker_threads';

export interface Usage {
  /** Blocks on the disk. A file with several names counts once. */
  readonly bytes: number;
  readonly entries: number;
  /** False: it has more entries than were counted, or an entry that cannot be read. */
  readonly isComplete: boolean;
}

export interface UsageMeter {
  /**
   * Measures directories, and the unlinked files on the first one's disk that `pids` or their descendants hold open.
   * Never follows a link. A missing directory counts as empty; one that cannot be measured in time is not complete.
   * Never rejects.
   */
  measure(paths: readonly string[], entriesMax: number, pids?: readonly number[]): Promise<Usage>;
  close(): void;
}

interface Job {
  readonly id: number;
  readonly paths: readonly string[];
  readonly entriesMax: number;
  readonly pids: readonly number[];
}

interface Answer extends Usage {
  readonly id: number;
}

const TIMEOUT_MS = 30_000;
const HEAP_MB = 64;
const UNKNOWN: Usage = { bytes: 0, entries: 0, isComplete: false };

export function createUsageMeter(): UsageMeter {
  const waiting = new Map<number, (usage: Usage) => void>();
  let worker: Worker | undefined;
  let lastId = 0;

  return {
    measure(paths, entriesMax, pids = []) {
      const id = ++lastId;
      const at = worker ?? open();
      return new Promise((resolve) => {
        const settle = (usage: Usage): void => {
          clearTimeout(timer);
          waiting.delete(id);
          if (waiting.size === 0) worker?.unref();
          resolve(usage);
        };
        // A file system that does not answer blocks the thread: the next measurement gets a new one.
        const timer = setTimeout(() => {
          stop(at);
          settle(UNKNOWN);
        }, TIMEOUT_MS).unref();
        waiting.set(id, settle);
        at.ref();
        at.postMessage({ id, paths, entriesMax, pids } satisfies Job);
      });
    },
    close: () => stop(worker),
  };

  function open(): Worker {
    const opened = new Worker(`(${measureMain})()`, {
      eval: true,
      env: {},
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MB, maxYoungGenerationSizeMb: 2 },
    });
    opened.on('message', (answer: Answer) => waiting.get(answer.id)?.(answer));
    opened.on('error', () => stop(opened));
    opened.unref();
    worker = opened;
    return opened;
  }

  function stop(stopped: Worker | undefined): void {
    if (stopped === undefined || stopped !== worker) return;
    worker = undefined;
    void stopped.terminate();
    for (const settle of [...waiting.values()]) settle(UNKNOWN);
  }
}

/** The body of the thread: its source is all of it, so it uses nothing from outside. */
function measureMain(): void {
  const { parentPort } = process.getBuiltinModule('node:worker_threads');
  const fs = process.getBuiltinModule('node:fs');
  const SLICE = 500;
  // Names are bytes: Latin-1 preserves each of them.
  const ENCODING = 'latin1';
  interface Measuring extends Job {
    readonly left: string[];
    open: { readonly path: string; readonly dir: import('node:fs').Dir } | undefined;
    bytes: number;
    entries: number;
  }
  const jobs: Measuring[] = [];

  const isGone = (error: unknown): boolean =>
    error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR');

  /** Counts the next entry; false when there is none. */
  const step = (job: Measuring): boolean => {
    if (job.open === undefined) {
      const path = job.left.pop();
      if (path === undefined) return false;
      try {
        job.open = { path, dir: fs.opendirSync(Buffer.from(path, ENCODING), { encoding: ENCODING }) };
      } catch (error) {
        if (!isGone(error)) throw error;
      }
      return true;
    }
    const { path, dir } = job.open;
    const entry = dir.readSync();
    if (entry === null) {
      dir.closeSync();
      job.open = undefined;
      return true;
    }
    const below = `${path}/${entry.name}`;
    const stats = fs.lstatSync(Buffer.from(below, ENCODING), { throwIfNoEntry: false });
    job.entries++;
    if (stats === undefined) return true;
    const isDirectory = stats.isDirectory();
    job.bytes += (stats.blocks * 512) / (isDirectory ? 1 : Math.max(1, stats.nlink));
    if (isDirectory) job.left.push(below);
    return true;
  };

  const list = (path: string): string[] => {
    try {
      return fs.readdirSync(path);
    } catch {
      // The process has ended, or belongs to another user.
      return [];
    }
  };

  const read = (path: string): string => {
    try {
      return fs.readFileSync(path, 'latin1');
    } catch {
      return '';
    }
  };

  /** In the format of /proc/PID/maps (makedev(3)). */
  const toHex = (device: number): string => {
    const numbers = [(device >> 8) & 0xfff, (device & 0xff) | ((device >>> 12) & 0xfff00)];
    return numbers.map((number) => number.toString(16).padStart(2, '0')).join(':');
  };

  /** Unlinked files, by inode: open ones with their blocks, mapped ones with the size of the mapping. */
  const addHeld = (pid: number, device: number, held: Map<number, number>): void => {
    const children = list(`/proc/${pid}/task`).map((task) => read(`/proc/${pid}/task/${task}/children`));
    for (const child of children.join(' ').split(' ').filter(Boolean)) addHeld(Number(child), device, held);
    for (const line of read(`/proc/${pid}/maps`).split('\n')) {
      const found = /^(\w+)-(\w+) \S+ \S+ (\w+:\w+) (\d+) .*\(deleted\)$/.exec(line);
      const [, from = '', to = '', on = '', inode = ''] = found ?? [];
      if (on !== toHex(device)) continue;
      const bytes = Number.parseInt(to, 16) - Number.parseInt(from, 16);
      held.set(Number(inode), Math.max(bytes, held.get(Number(inode)) ?? 0));
    }
    for (const fd of list(`/proc/${pid}/fd`)) {
      try {
        const stats = fs.statSync(`/proc/${pid}/fd/${fd}`);
        if (stats.isFile() && stats.nlink === 0 && stats.dev === device) held.set(stats.ino, stats.blocks * 512);
      } catch {
        // It has been closed.
      }
    }
  };

  const heldBytes = ({ paths, pids }: Job): number => {
    const device = fs.statSync(paths[0] ?? '/', { throwIfNoEntry: false })?.dev;
    const held = new Map<number, number>();
    if (device !== undefined) for (const pid of pids) addHeld(pid, device, held);
    return [...held.values()].reduce((sum, bytes) => sum + bytes, 0);
  };

  const end = (job: Measuring, isComplete: boolean): void => {
    try {
      job.open?.dir.closeSync();
    } catch {
      // It was closed meanwhile.
    }
    const { id, bytes, entries } = job;
    parentPort?.postMessage({ id, bytes, entries, isComplete } satisfies Answer);
  };

  /** Each job in turn gets a slice of time: a large directory does not delay a small one. */
  const run = (): void => {
    const job = jobs.shift();
    if (job === undefined) return;
    try {
      for (let left = SLICE; left > 0; left--) {
        if (step(job)) continue;
        end(job, true);
        setImmediate(run);
        return;
      }
      if (job.entries > job.entriesMax) end(job, false);
      else jobs.push(job);
    } catch {
      end(job, false);
    }
    setImmediate(run);
  };

  parentPort?.on('message', (job: Job) => {
    const left = job.paths.map((path) => Buffer.from(path).toString(ENCODING));
    jobs.push({ ...job, left, open: undefined, bytes: heldBytes(job), entries: 0 });
    if (jobs.length === 1) setImmediate(run);
  });
}
