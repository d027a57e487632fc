// Checks answers against their JSON Schemas without blocking other requests. A pattern of a schema, or references that
// branch, can take time that grows exponentially. So a check runs for some milliseconds on the main thread, which is
// enough for nearly all, then again in a worker thread, which is stopped when it takes too long.
import { createContext, runInContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { nextHeavyTurn } from './async.ts';
import { type Issue, RpcError } from './errors.ts';
import type { CheckJob } from './output-check.ts';
import type { OutputSchema } from './output-schema.ts';

const MAIN_MS_MAX = 25;
/** A longer answer is checked by the worker at once: parsing it cannot be interrupted. */
const MAIN_CHARS_MAX = 256 << 10;
const WORKER_MS_MAX = 2_000;
const WORKER_HEAP_MIB = 96;
/** The worker is stopped when it has had no work for this long. */
const IDLE_MS = 30_000;
/** Most checks that wait for the worker. */
const WAITING_MAX = 32;

type Checks = typeof import('./output-check.ts');

interface Waiting {
  readonly job: CheckJob;
  readonly settle: (issues: readonly Issue[]) => void;
}

/** The thread, and the check that it runs. */
interface Thread {
  readonly worker: Worker;
  isReady: boolean;
  current: Waiting | undefined;
  timer: NodeJS.Timeout | undefined;
}

const waiting: Waiting[] = [];
let thread: Thread | undefined;

/** What does not match; empty if the answer is JSON of the schema. Throws `unavailable` when too many checks wait. */
export async function checkOutput(schema: OutputSchema, content: string): Promise<readonly Issue[]> {
  // Not needed before the first answer, so not loaded at start.
  const checks = await import('./output-check.ts');
  const job = { schema, content };
  if (content.length <= MAIN_CHARS_MAX) {
    await nextHeavyTurn();
    const issues = withinTime(MAIN_MS_MAX, () => checks.checkAnswer(job));
    if (issues !== undefined) return issues;
  }
  if (waiting.length >= WAITING_MAX) {
    throw new RpcError('unavailable', { message: 'too many answers wait for their check', retryAfterMs: 1_000 });
  }
  return new Promise((settle) => {
    waiting.push({ job, settle });
    proceed(checks);
  });
}

/** Gives the next check to the worker, if it is idle. */
function proceed(checks: Checks): void {
  if (waiting.length === 0) return;
  thread ??= start(checks);
  if (!thread.isReady || thread.current !== undefined) return;
  const next = waiting.shift();
  if (next === undefined) return;
  clearTimeout(thread.timer);
  const stopped = thread;
  thread.current = next;
  thread.timer = setTimeout(() => stop(stopped, checks), WORKER_MS_MAX);
  thread.worker.ref();
  thread.worker.postMessage(next.job);
}

function start(checks: Checks): Thread {
  const worker = new Worker(checks.workerUrl, {
    workerData: checks.WORKER,
    env: {},
    execArgv: [],
    resourceLimits: { maxOldGenerationSizeMb: WORKER_HEAP_MIB, maxYoungGenerationSizeMb: 4 },
  });
  const started: Thread = { worker, isReady: false, current: undefined, timer: undefined };
  worker.on('message', (message: 'ready' | readonly Issue[]) => {
    clearTimeout(started.timer);
    if (message === 'ready') started.isReady = true;
    else {
      started.current?.settle(message);
      started.current = undefined;
      worker.unref();
      started.timer = setTimeout(() => stop(started, checks), IDLE_MS).unref();
    }
    proceed(checks);
  });
  // Out of memory, for example.
  worker.on('error', () => stop(started, checks));
  worker.on('exit', () => stop(started, checks));
  return started;
}

/** Ends the worker, whose check takes too long; that of a worker that has not started fails as well. */
function stop(stopped: Thread, checks: Checks): void {
  if (thread !== stopped) return;
  thread = undefined;
  clearTimeout(stopped.timer);
  void stopped.worker.terminate();
  const failed = stopped.current ?? (stopped.isReady ? undefined : waiting.shift());
  failed?.settle(checks.TOO_DEEP);
  proceed(checks);
}

/** Undefined if the work takes longer: `vm` also ends a regular expression. */
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
