// Starts limiter processes and gives them work, for the emulator tests and the bench. Owns their lives: stop() leaves
// none behind.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Limit } from '../../shared/config/limits.ts';

export interface Setup {
  readonly projectId: string;
}

export interface Job {
  readonly keyId: string;
  readonly limits: readonly Limit[];
  readonly calls: number;
  /** Milliseconds over which the calls arrive; all at once when omitted. */
  readonly spreadMs?: number;
  /** Calls go to this many keys (`<keyId>-<n>`) at random instead of one. */
  readonly keys?: number;
  /** Each call waits for the one before. */
  readonly sequential?: boolean;
  readonly mayDegrade?: boolean;
  /** Instances of the process that make `calls` each, every one with its own connection and state; default: one. */
  readonly instances?: number;
  /** How far the clock of the instances is off, milliseconds; default: 0. */
  readonly skewMs?: number;
  /**
   * Waits longer for the store than a gateway would: for crowds that one small machine runs far slower than the cloud.
   */
  readonly patient?: boolean;
}

export interface Report {
  /** Calls by outcome; `degraded` stands for an admission by the per-instance bucket. */
  readonly outcomes: Readonly<Record<string, number>>;
  readonly latenciesMs: readonly number[];
  /** Documents read and written, and writes lost to a conflict; a lock counts as four. */
  readonly operations: number;
  readonly lost: number;
  readonly locks: number;
}

export interface LimiterProcess {
  readonly pid: number;
  run(job: Job): Promise<Report>;
  stop(): Promise<void>;
}

const WORKER = fileURLToPath(new URL('./rate-limit-worker.ts', import.meta.url));

/** Resolves when the process has its connection. `host` is the Firestore emulator's `host:port`. */
export async function startLimiterProcess(host: string, setup: Setup): Promise<LimiterProcess> {
  const child = fork(WORKER, [JSON.stringify(setup)], {
    env: { ...process.env, FIRESTORE_EMULATOR_HOST: host, METADATA_SERVER_DETECTION: 'none' },
    execArgv: [],
  });
  await answer(child);
  return {
    pid: child.pid ?? 0,
    async run(job) {
      child.send(job);
      return (await answer(child)) as Report;
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    },
  };
}

export function startLimiterProcesses(count: number, host: string, setup: Setup): Promise<LimiterProcess[]> {
  return Promise.all(Array.from({ length: count }, () => startLimiterProcess(host, setup)));
}

/** Calls of one outcome over several reports. */
export function total(reports: readonly Report[], outcome: string): number {
  return reports.reduce((sum, { outcomes }) => sum + (outcomes[outcome] ?? 0), 0);
}

/** The p-th quantile (0..1) of all latencies of some reports, in milliseconds. */
export function quantileMs(reports: readonly Report[], p: number): number {
  const sorted = reports.flatMap(({ latenciesMs }) => latenciesMs).sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))] ?? 0;
}

function answer(child: ChildProcess): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const onExit = (code: number | null, signal: string | null): void => {
      child.off('message', onMessage);
      reject(new Error(`limiter process ended (${code ?? signal})`));
    };
    const onMessage = (message: object): void => {
      child.off('exit', onExit);
      if ('failure' in message) reject(new Error(String(message.failure)));
      else resolve(message);
    };
    child.once('exit', onExit).once('message', onMessage);
  });
}
