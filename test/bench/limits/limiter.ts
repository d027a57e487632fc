// Measures the limiter on the Firestore emulator: a burst against the naive limiter (one runTransaction per request),
// several processes on one key, and what calls cost in billed operations. Run alone with `node
// test/bench/limits/limiter.ts`.
import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { Firestore } from '@google-cloud/firestore';
import type { Limit } from '../../../shared/config/values/limits.ts';
import type { LimitState } from '../../../shared/rate-limit/windows/limit-state.ts';
import { charge } from '../../../shared/rate-limit/windows/windows.ts';
import { startFirestoreEmulator } from '../../support/fixtures/database/emulators.ts';
import {
  type LimiterProcess,
  quantileMs,
  type Report,
  startLimiterProcesses,
  total,
} from '../../support/fixtures/limiter/limiter-processes.ts';
import { type BenchLine, median, printLines } from '../support/bench.ts';

const PROJECT = 'bench-limiter';
const LIMITS: readonly Limit[] = [
  { max: 100, windowMs: 60_000 },
  { max: 1_000, windowMs: 3_600_000 },
  { max: 10_000, windowMs: 86_400_000 },
];
const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3);
const BURST = 100;
const PROCESSES = 4;

interface Burst {
  readonly admitted: number;
  readonly p99Ms: number;
  readonly operations: number;
}

/** Starts an emulator, measures, and stops it. */
export async function run(): Promise<BenchLine[]> {
  const emulator = await startFirestoreEmulator();
  const processes = await startLimiterProcesses(PROCESSES, emulator.host, { projectId: PROJECT });
  try {
    return [...(await bursts(processes, emulator.host)), ...(await spread(processes)), ...(await steady(processes))];
  } finally {
    await Promise.all(processes.map((process) => process.stop()));
    await emulator.stop();
  }
}

async function bursts(processes: readonly LimiterProcess[], host: string): Promise<BenchLine[]> {
  const ours: Burst[] = [];
  const naive: Burst[] = [];
  const contended: Report[][] = [];
  const naiveLimiter = createNaiveLimiter(host);
  for (let round = 0; round < ROUNDS; round++) {
    await startOfWindow(40_000);
    const keyId = `burst-${round}-${Date.now()}`;
    const report = await first(processes).run({ keyId, limits: LIMITS, calls: BURST });
    ours.push({
      admitted: total([report], 'admitted'),
      p99Ms: quantileMs([report], 0.99),
      operations: report.operations,
    });
    contended.push(await runOnAll(processes, { keyId: `contended-${keyId}`, limits: LIMITS, calls: 300 }));
    naive.push(await naiveLimiter.burst(`naive-${keyId}`));
  }
  await naiveLimiter.close();
  const p99Ms = median(ours.map((burst) => burst.p99Ms));
  const naiveMs = median(naive.map((burst) => burst.p99Ms));
  const operations = Math.max(...ours.map((burst) => burst.operations));
  const admitted = ours.map((burst) => burst.admitted);
  const contendedAdmitted = contended.map((reports) => total(reports, 'admitted'));
  const contendedMs = median(contended.map((reports) => quantileMs(reports, 0.99)));
  const decided = contended.every(
    (reports) => total(reports, 'admitted') + total(reports, 'rate_limited') === PROCESSES * 300,
  );
  return [
    line(
      'limiter burst of 100, one instance: admitted',
      Math.min(...admitted),
      'calls',
      '= 100',
      admitted.every((n) => n === BURST),
    ),
    line('limiter burst of 100, one instance: operations', operations, 'operations', '<= 20', operations <= 20, {
      baseline: median(naive.map((burst) => burst.operations)),
      baselineName: 'naive (its reads and writes, retries included)',
    }),
    line('limiter burst of 100, one instance: p99', p99Ms, 'ms', '>= 50x better than naive', naiveMs / p99Ms >= 50, {
      baseline: naiveMs,
      baselineName: 'one runTransaction per request',
      ratio: naiveMs / p99Ms,
      notes: `naive admitted ${naive.map((burst) => burst.admitted).join(', ')} of ${BURST}`,
    }),
    line(
      'limiter 4 processes x 300 at once: admitted',
      Math.max(...contendedAdmitted),
      'calls',
      '= 100, every call decided',
      decided && contendedAdmitted.every((n) => n === 100),
      {
        baseline: await admittedByInstances(),
        baselineName: 'rate-limiter-flexible in the memory of each process',
        notes: 'it has no adapter for Firestore',
      },
    ),
    line('limiter 4 processes x 300 at once: p99', contendedMs, 'ms', '< 500', contendedMs < 500, {
      notes: `operations per process ${contended
        .flat()
        .map((report) => report.operations)
        .join(' ')}`,
    }),
  ];
}

async function spread(processes: readonly LimiterProcess[]): Promise<BenchLine[]> {
  const rounds: Report[][] = [];
  for (let round = 0; round < ROUNDS; round++) {
    await startOfWindow(5_000);
    rounds.push(
      await runOnAll(processes, { keyId: `spread-${Date.now()}`, limits: LIMITS, calls: 25, spreadMs: 1_000 }),
    );
  }
  const admitted = rounds.map((reports) => total(reports, 'admitted'));
  const p99Ms = median(rounds.map((reports) => quantileMs(reports, 0.99)));
  const p50Ms = median(rounds.map((reports) => quantileMs(reports, 0.5)));
  return [
    line(
      'limiter 4 processes x 25 over a second: admitted',
      Math.min(...admitted),
      'calls',
      '= 100',
      admitted.every((n) => n === 100),
    ),
    line('limiter 4 processes x 25 over a second: p99', p99Ms, 'ms', '< 300', p99Ms < 300, {
      notes: `p50 ${p50Ms.toFixed(1)} ms`,
    }),
  ];
}

async function steady(processes: readonly LimiterProcess[]): Promise<BenchLine[]> {
  const job = { limits: LIMITS, keys: 20, calls: 800, spreadMs: 8_000 };
  const one = await first(processes).run({ ...job, keyId: `steady-one-${Date.now()}` });
  const several = await runOnAll(processes, { ...job, calls: 200, keyId: `steady-several-${Date.now()}` });
  await startOfWindow(10_000);
  const keyId = `refused-${Date.now()}`;
  await first(processes).run({ keyId, limits: LIMITS, calls: 101 });
  const refused = await first(processes).run({ keyId, limits: LIMITS, calls: 500, spreadMs: 1_000 });
  const perCall = one.operations / total([one], 'admitted');
  // Billed are documents read and written; a commit whose precondition fails writes none.
  const lost = several.reduce((sum, report) => sum + report.lost, 0);
  const operations = several.reduce((sum, report) => sum + report.operations, 0) - lost;
  const perCallSeveral = operations / total(several, 'admitted');
  const perRefused = refused.operations / total([refused], 'rate_limited');
  const unit = 'operations/call';
  return [
    line('limiter steady load over 20 keys, one instance', perCall, unit, '<= 1.2', perCall <= 1.2, {
      notes: `p50 ${quantileMs([one], 0.5).toFixed(1)} ms, p99 ${quantileMs([one], 0.99).toFixed(1)} ms at 100 calls/s`,
    }),
    line('limiter steady load over 20 keys, 4 instances', perCallSeveral, unit, '<= 2', perCallSeveral <= 2, {
      notes: `${lost} commits lost to another instance, not counted`,
    }),
    line('limiter refused calls after the first', perRefused, unit, '= 0', perRefused === 0),
  ];
}

/** Calls admitted by the same number of processes without a shared store, each with its own limiter. */
async function admittedByInstances(): Promise<number> {
  const code = `const { RateLimiterMemory } = require('rate-limiter-flexible');
    const limiter = new RateLimiterMemory({ points: 100, duration: 60 });
    const calls = Array.from({ length: 300 }, () => limiter.consume('key').then(() => 1, () => 0));
    Promise.all(calls).then((admitted) => console.log(admitted.reduce((sum, n) => sum + n)));`;
  const counts = await Promise.all(
    Array.from({ length: PROCESSES }, async () => {
      const child = spawn(process.execPath, ['-e', code], { cwd: 'test', stdio: ['ignore', 'pipe', 'inherit'] });
      return Number(await text(child.stdout));
    }),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

/** One transaction per request, with the retries of the SDK. */
function createNaiveLimiter(host: string) {
  process.env.METADATA_SERVER_DETECTION ??= 'none';
  const firestore = new Firestore({
    projectId: PROJECT,
    host,
    ssl: false,
    customHeaders: { Authorization: 'Bearer owner' },
  });
  return {
    async burst(keyId: string): Promise<Burst> {
      const document = firestore.collection('naive').doc(keyId);
      const latenciesMs: number[] = [];
      let admitted = 0;
      let operations = 0;
      await Promise.all(
        Array.from({ length: BURST }, async () => {
          const startMs = performance.now();
          const isAdmitted = await firestore
            .runTransaction(async (transaction) => {
              operations += 2;
              const stored = (await transaction.get(document)).data();
              const state: LimitState = { windows: stored?.windows ?? [], revoked: false };
              const charged = charge(state, LIMITS, 1, Date.now());
              transaction.set(document, charged.state);
              return charged.decision.outcome === 'admitted';
            })
            .catch(() => false);
          latenciesMs.push(performance.now() - startMs);
          if (isAdmitted) admitted++;
        }),
      );
      return {
        admitted,
        operations,
        p99Ms: quantileMs([{ outcomes: {}, latenciesMs, operations, lost: 0, locks: 0 }], 0.99),
      };
    },
    close: () => firestore.terminate(),
  };
}

/** Waits for the next minute if less than `neededMs` (at most 15 s) of this one is left, so that no window resets. */
async function startOfWindow(neededMs: number): Promise<void> {
  const leftMs = 60_000 - (Date.now() % 60_000);
  if (leftMs < Math.min(neededMs, 15_000)) await new Promise((resolve) => setTimeout(resolve, leftMs + 100));
}

function runOnAll(processes: readonly LimiterProcess[], job: Parameters<LimiterProcess['run']>[0]): Promise<Report[]> {
  return Promise.all(processes.map((process) => process.run(job)));
}

function first(processes: readonly LimiterProcess[]): LimiterProcess {
  const process = processes[0];
  if (process === undefined) throw new Error('no limiter process');
  return process;
}

function line(
  name: string,
  value: number,
  unit: string,
  target: string,
  met: boolean,
  more: Partial<BenchLine> = {},
): BenchLine {
  return { name, value, unit, target, met, ...more };
}

if (process.argv[1] === import.meta.filename) printLines(await run());
