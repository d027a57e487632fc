// Checks answers against their JSON Schemas without blocking other requests. A pattern of a schema, or references that
// branch, can take time that grows exponentially. So the main thread only checks, for some milliseconds, whether an
// answer matches, which is enough for nearly all. Other answers are checked by a worker thread, which is stopped when a
// check takes too long.
import { once } from 'node:events';
import { createContext, runInContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { type Bounds, bounded, nextHeavyTurn, orAbort } from '../async.ts';
import { createSlots } from '../bounds/slots.ts';
import type { Issue } from '../errors.ts';
import type { CheckJob } from './output-check.ts';
import type { OutputSchema } from './output-schema.ts';

const MAIN_MS_MAX = 25;
/** A longer answer is checked by the worker at once: parsing it cannot be interrupted. */
const MAIN_CHARS_MAX = 256 << 10;
const WORKER_MS_MAX = 2_000;
const WORKER_HEAP_MIB = 96;
/** The worker is stopped when it has had no work for this long. */
const IDLE_MS = 30_000;

type Checks = typeof import('./output-check.ts');

interface Thread {
  readonly worker: Worker;
  /** Rejects if the thread does not start. */
  readonly ready: Promise<unknown>;
}

/**
 * The worker runs one check at a time, about 1,000 a second. Every answer that does not match waits for it, so as many
 * may wait as turns of an instance end at about the same time.
 */
const slots = createSlots({
  ...{ perKey: 1, total: 1, waiting: 1_024, waitMs: 60_000 },
  message: 'too many answers are waiting for validation',
});
let thread: Thread | undefined;
let idle: NodeJS.Timeout | undefined;

export interface CheckOptions {
  /** The owners whose checks wait for the worker take turns. */
  readonly owner: string;
  readonly signal: AbortSignal;
  /** The worker is stopped when a check takes longer. Default: 2 s. */
  readonly timeoutMs?: number;
}

/**
 * What does not match; empty if the answer is JSON of the schema. Throws `unavailable` when too many checks wait, the
 * signal's reason when aborted.
 */
export async function checkOutput(
  schema: OutputSchema,
  content: string,
  { owner, signal, timeoutMs = WORKER_MS_MAX }: CheckOptions,
): Promise<readonly Issue[]> {
  // Not needed before the first answer, so not loaded at start.
  const checks = await import('./output-check.ts');
  const job = { schema, content };
  if (content.length <= MAIN_CHARS_MAX) {
    await nextHeavyTurn();
    signal.throwIfAborted();
    if (withinTime(MAIN_MS_MAX, () => checks.matchesSchema(job)) === true) return [];
  }
  const release = await slots.acquire(owner, signal);
  try {
    return await checkInThread(checks, job, { signal, timeoutMs });
  } finally {
    release();
  }
}

/** A check that is aborted, fails or takes too long ends the thread. */
async function checkInThread(checks: Checks, job: CheckJob, { signal, timeoutMs }: Bounds): Promise<readonly Issue[]> {
  clearTimeout(idle);
  thread ??= start(checks);
  const { worker, ready } = thread;
  worker.ref();
  try {
    await orAbort(ready, signal);
    const found: (readonly Issue[])[] = await bounded({ signal, timeoutMs }, (bounds) => {
      worker.postMessage(job);
      return once(worker, 'message', bounds);
    });
    worker.unref();
    idle = setTimeout(stop, IDLE_MS, worker).unref();
    return found[0] ?? checks.TOO_DEEP;
  } catch {
    stop(worker);
    signal.throwIfAborted();
    return checks.TOO_DEEP;
  }
}

function start(checks: Checks): Thread {
  const worker = new Worker(checks.workerUrl, {
    workerData: checks.WORKER,
    env: {},
    execArgv: [],
    resourceLimits: { maxOldGenerationSizeMb: WORKER_HEAP_MIB, maxYoungGenerationSizeMb: 4 },
  });
  // Out of memory, for example.
  worker.on('error', () => stop(worker));
  worker.on('exit', () => stop(worker));
  return { worker, ready: bounded({}, (bounds) => once(worker, 'message', bounds)) };
}

function stop(worker: Worker): void {
  if (thread?.worker === worker) thread = undefined;
  void worker.terminate();
}

/**
 * Undefined if the work takes longer: `vm` also ends a regular expression. The work must not change what other code
 * uses: it ends anywhere, without `catch` and `finally`.
 */
function withinTime<R>(ms: number, work: () => R): R | undefined {
  let result: R | undefined;
  const run = (): void => {
    result = work();
  };
  try {
    runInContext('run()', createContext({ run }), { timeout: ms });
    return result;
  } catch (error) {
    // The error of another context is no instance of this one's Error.
    if (Reflect.get(Object(error), 'code') === 'ERR_SCRIPT_EXECUTION_TIMEOUT') return undefined;
    throw error;
  }
}
