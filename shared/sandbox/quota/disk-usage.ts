// Measures the size of directories: a few entries at once, more in a worker thread, so that a large directory delays
// neither the event loop nor other measurements.
import { Worker } from 'node:worker_threads';
import { createHeldFileMeter } from './held-files.ts';
import { measureSmall, type Usage } from './small-usage.ts';

export interface UsageMeter {
  /**
   * Measures directories, and unlinked files on the disk of the first one that the processes `pids` or their
   * descendants hold open. Does not follow symbolic links. A directory that does not exist counts as empty. The result
   * is not complete if the measurement takes too long. Never rejects.
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
      const small = pids.length === 0 ? measureSmall(paths) : undefined;
      if (small !== undefined) return Promise.resolve(small);
      const id = ++lastId;
      const target = worker ?? startWorker();
      return new Promise((resolve) => {
        const settle = (usage: Usage): void => {
          clearTimeout(timer);
          waiting.delete(id);
          if (waiting.size === 0) worker?.unref();
          resolve(usage);
        };
        // A file system that does not respond blocks the thread, so the next measurement starts a new one.
        const timer = setTimeout(() => {
          stop(target);
          settle(UNKNOWN);
        }, TIMEOUT_MS).unref();
        waiting.set(id, settle);
        target.ref();
        target.postMessage({ id, paths, entriesMax, pids } satisfies Job);
      });
    },
    close: () => stop(worker),
  };

  function startWorker(): Worker {
    const started = new Worker(`(${measureMain})(${createHeldFileMeter})`, {
      eval: true,
      env: {},
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MB, maxYoungGenerationSizeMb: 2 },
    });
    started.on('message', (answer: Answer) => waiting.get(answer.id)?.(answer));
    started.on('error', () => stop(started));
    started.unref();
    worker = started;
    return started;
  }

  function stop(stopped: Worker | undefined): void {
    if (stopped === undefined || stopped !== worker) return;
    worker = undefined;
    void stopped.terminate();
    for (const settle of [...waiting.values()]) settle(UNKNOWN);
  }
}

/**
 * The main function of the worker thread. It is passed as source text, so it may use only its arguments, nothing else
 * from outside its body.
 */
function measureMain(createMeter: typeof createHeldFileMeter): void {
  const { parentPort } = process.getBuiltinModule('node:worker_threads');
  const fs = process.getBuiltinModule('node:fs');
  const SLICE = 500;
  // Names of files are bytes. Decoded as Latin-1, every byte is preserved.
  const ENCODING = 'latin1';
  interface Measuring extends Job {
    readonly left: string[];
    open: { readonly path: string; readonly dir: import('node:fs').Dir } | undefined;
    bytes: number;
    entries: number;
  }
  const jobs: Measuring[] = [];
  const measureHeldFiles = createMeter();

  const isGone = (error: unknown): boolean =>
    error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR');

  /** Counts the next entry; returns false when there is none. */
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
      // The directory is closed already.
    }
    const { id, bytes, entries } = job;
    parentPort?.postMessage({ id, bytes, entries, isComplete } satisfies Answer);
  };

  /** Each job in turn counts a slice of its entries, so that a large directory does not delay a small one. */
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
    jobs.push({ ...job, left, open: undefined, bytes: measureHeldFiles(job), entries: 0 });
    if (jobs.length === 1) setImmediate(run);
  });
}
