// Measures directories in a thread of its own, so that a large one holds up neither the event loop nor the measuring of others.
import { Worker } from 'node:worker_threads';

export interface Usage {
  /** Blocks on the disk. A file with several names counts once. */
  readonly bytes: number;
  readonly entries: number;
  /** False: it has more entries than were counted, or one that cannot be read. */
  readonly isComplete: boolean;
}

export interface UsageMeter {
  /** Never follows a link. What is not there counts nothing; what cannot be measured in time is not complete. Never rejects. */
  measure(paths: readonly string[], entriesMax: number): Promise<Usage>;
  close(): void;
}

interface Job {
  readonly id: number;
  readonly paths: readonly string[];
  readonly entriesMax: number;
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
    measure(paths, entriesMax) {
      const id = ++lastId;
      const at = worker ?? open();
      return new Promise((resolve) => {
        const settle = (usage: Usage): void => {
          clearTimeout(timer);
          waiting.delete(id);
          if (waiting.size === 0) worker?.unref();
          resolve(usage);
        };
        // A file system that does not answer keeps the thread: the next measurement gets a new one.
        const timer = setTimeout(() => {
          stop(at);
          settle(UNKNOWN);
        }, TIMEOUT_MS).unref();
        waiting.set(id, settle);
        at.ref();
        at.postMessage({ id, paths, entriesMax } satisfies Job);
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

/** What the thread runs: its source is all of it, so it uses nothing from outside its body. */
function measureMain(): void {
  const { parentPort } = process.getBuiltinModule('node:worker_threads');
  const fs = process.getBuiltinModule('node:fs');
  const SLICE = 500;
  // Names are bytes: as Latin-1 each of them stays what it is.
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

  const end = (job: Measuring, isComplete: boolean): void => {
    try {
      job.open?.dir.closeSync();
    } catch {
      // It was not open any more.
    }
    const { id, bytes, entries } = job;
    parentPort?.postMessage({ id, bytes, entries, isComplete } satisfies Answer);
  };

  /** A slice of each job in turn: a large directory does not hold up a small one. */
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
    jobs.push({ ...job, left, open: undefined, bytes: 0, entries: 0 });
    if (jobs.length === 1) setImmediate(run);
  });
}
