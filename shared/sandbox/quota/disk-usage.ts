// Measures directories in a separate thread, so that a large one delays neither the event loop nor other measurements.
import { Worker } from 'node:worker_threads';
import { countHeldFiles } from './held-files.ts';

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
    const opened = new Worker(`(${measureMain})(${countHeldFiles})`, {
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

/** The body of the thread. It is passed as source text, so it must use nothing from outside but its arguments. */
function measureMain(heldFiles: typeof countHeldFiles): void {
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
  const heldBytes = heldFiles();

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
