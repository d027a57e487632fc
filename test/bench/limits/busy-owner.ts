// Measures one owner on four gateways, with Firestore's emulator 20 ms away: conversation.status at 50 calls a second
// on each, against one of them alone at the same rate. Both are measured in turns, and the median over the rounds
// counts, so that a machine that is busy for a second has no influence. Also measures what the limiter of four
// processes spends on a call.
import { randomBytes } from 'node:crypto';
import { Agent } from 'node:http';
import { startFirestoreEmulator } from '../../support/fixtures/database/emulators.ts';
import { type LocalGateway, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import {
  type LimiterProcess,
  quantileMs,
  type Report,
  startLimiterProcesses,
  total,
} from '../../support/fixtures/limiter/limiter-processes.ts';
import { startDelayProxy } from '../../support/fixtures/network/delay-proxy.ts';
import { type BenchLine, median, printLines } from '../support/bench.ts';
import { postCall } from '../support/post-call.ts';

const ROUND_TRIP_MS = 20;
const GATEWAYS = 4;
const RATE = 50;
const ROUNDS = 3;
/** Compiles the code of four new processes. */
const FIRST_WARM_UP_MS = 10_000;
/** Until the calls of an owner are counted in blocks, or no longer by the others. */
const WARM_UP_MS = 5_000;
/** Of all rounds together. */
const MEASURED_MS = Number(process.env.BENCH_SECONDS ?? 36) * 1_000;
const LIMITS = [60_000, 13_000];
/** The busy owner, that of one instance, and one owner for each gateway. */
const KEY = 'busy';
const CALM_KEY = 'calm';
const PARAMS = { session_id: 'bench' };
const KEYS = [KEY, CALM_KEY, ...Array.from({ length: GATEWAYS }, (_, index) => `apart-${index}`)];

export async function run(): Promise<BenchLine[]> {
  // A real database: the limiter alone, on more and more instances.
  const { BENCH_PROJECT: projectId } = process.env;
  if (projectId !== undefined) return limiters(undefined, projectId, [1, 5, 25]);
  const emulator = await startFirestoreEmulator();
  const proxy = await startDelayProxy(emulator.host, ROUND_TRIP_MS);
  try {
    const lines: BenchLine[] = [];
    for (const limit of LIMITS) lines.push(...(await gateways(proxy.host, limit)));
    return [...lines, ...(await limiters(proxy.host, 'bench-busy-owner', [1]))];
  } finally {
    await proxy.stop();
    await emulator.stop();
  }
}

async function gateways(host: string, limit: number): Promise<BenchLine[]> {
  const env = {
    FIRESTORE_EMULATOR_HOST: host,
    GOOGLE_CLOUD_PROJECT: `bench-${randomBytes(4).toString('hex')}`,
    METADATA_SERVER_DETECTION: 'none',
    GATEWAY_KEYS: JSON.stringify({ keys: KEYS.map((key) => ({ id: key, key, scopes: ['conversation'] })) }),
    GATEWAY_BUS: 'local',
    GATEWAY_LIMITS: `${limit}/minute`,
  };
  const all = await Promise.all(Array.from({ length: GATEWAYS }, () => startLocalGateway({ env })));
  try {
    await load(all, () => KEY, { warmUpMs: FIRST_WARM_UP_MS, measuredMs: 0 });
    const rounds: Record<'calm' | 'apart' | 'busy', Load>[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const calm = await load(all.slice(0, 1), () => CALM_KEY);
      // The same load on the machine as that of the busy owner, and no document that two gateways write.
      const apart = await load(all, (index) => `apart-${index}`);
      rounds.push({ calm, apart, busy: await load(all, () => KEY) });
    }
    const [busy, calm, apart] = (['busy', 'calm', 'apart'] as const).map((name) => {
      return together(rounds.map((round) => round[name]));
    });
    if (busy === undefined || calm === undefined || apart === undefined) throw new Error('nothing was measured');
    return [
      ...lines(limit, busy, calm, `one instance at ${RATE} calls/s`),
      ...lines(limit, busy, apart, `as many calls of ${GATEWAYS} owners`),
    ];
  } finally {
    await Promise.all(all.map((gateway) => gateway.stop()));
  }
}

function together(rounds: readonly Load[]): Load {
  return {
    p50Ms: median(rounds.map(({ p50Ms }) => p50Ms)),
    p99Ms: median(rounds.map(({ p99Ms }) => p99Ms)),
    failures: rounds.flatMap(({ failures }) => failures),
    notes: rounds.map(({ notes }) => notes).join('; '),
  };
}

function lines(limit: number, busy: Load, baseline: Load, baselineName: string): BenchLine[] {
  return (['p50', 'p99'] as const).map((name) => {
    const part = name === 'p50' ? 1.2 : 1.5;
    const [value, than] = [busy[`${name}Ms`], baseline[`${name}Ms`]];
    return {
      name: `busy owner, limit ${limit} a minute: ${name} of ${GATEWAYS} x ${RATE} calls/s`,
      value,
      unit: 'ms',
      baseline: than,
      baselineName,
      ratio: than / value,
      target: `<= ${part}x of the baseline`,
      met: value <= part * than && busy.failures.length === 0,
      notes: `${busy.failures.length} calls failed, ${baseline.failures.length} of the baseline; ${busy.notes}`,
    };
  });
}

interface Load {
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** One for each call that was not answered with a result. */
  readonly failures: readonly Error[];
  /** How many calls took more than SLOW_MS and where, and how late this process has sent one. */
  readonly notes: string;
}

const SLOW_MS = 80;

const toError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)));

/** The first connection to the store may take longer than a call may wait. */
async function untilReady({ url }: LocalGateway, agent: Agent): Promise<void> {
  for (let attempt = 0; attempt < 30; attempt++) {
    const failure = await postCall(agent, url, KEY, 'conversation.status', PARAMS).catch(toError);
    if (failure === undefined) return;
    await new Promise((resolve) => setTimeout(resolve, 1_000));
  }
}

/** Each gateway gets a call every 20 ms, whether or not the earlier ones have returned. */
async function load(
  all: readonly LocalGateway[],
  keyOf: (gateway: number) => string,
  { warmUpMs, measuredMs } = { warmUpMs: WARM_UP_MS, measuredMs: MEASURED_MS / ROUNDS },
): Promise<Load> {
  const agent = new Agent({ keepAlive: true });
  await Promise.all(all.map((gateway) => untilReady(gateway, agent)));
  const latenciesMs: number[] = [];
  const failures: Error[] = [];
  const slow = all.map(() => 0);
  let lateMs = 0;
  const startMs = performance.now();
  const calls = all.flatMap(({ url }, index) =>
    Array.from({ length: ((warmUpMs + measuredMs) * RATE) / 1_000 }, async (_, call) => {
      const atMs = (call * 1_000) / RATE + (index * 1_000) / RATE / all.length;
      await new Promise((resolve) => setTimeout(resolve, atMs));
      const sentMs = performance.now();
      const failure = await postCall(agent, url, keyOf(index), 'conversation.status', PARAMS).catch(toError);
      if (sentMs - startMs <= warmUpMs) return;
      const latencyMs = performance.now() - sentMs;
      latenciesMs.push(latencyMs);
      lateMs = Math.max(lateMs, sentMs - startMs - atMs);
      if (latencyMs > SLOW_MS) slow[index] = (slow[index] ?? 0) + 1;
      if (failure !== undefined) failures.push(failure);
    }),
  );
  await Promise.all(calls);
  agent.destroy();
  latenciesMs.sort((a, b) => a - b);
  const quantile = (part: number): number => latenciesMs[Math.floor(part * (latenciesMs.length - 1))] ?? Number.NaN;
  const [p50Ms, p99Ms] = [quantile(0.5), quantile(0.99)];
  const late = `sent ${Math.round(lateMs)} ms late`;
  const notes = `p99 ${Math.round(p99Ms)} ms, ${slow.join('+')} calls above ${SLOW_MS} ms, ${late}`;
  return { p50Ms, p99Ms, failures, notes };
}

/** The limiter without the gateway around it, on four processes with so many instances each. */
async function limiters(
  host: string | undefined,
  projectId: string,
  instances: readonly number[],
): Promise<BenchLine[]> {
  const processes = await startLimiterProcesses(GATEWAYS, host, { projectId });
  try {
    const lines: BenchLine[] = [];
    for (const each of instances) {
      for (const limit of LIMITS) lines.push(...(await limiterLines(processes, each, limit)));
    }
    return lines;
  } finally {
    await Promise.all(processes.map((process) => process.stop()));
  }
}

async function limiterLines(
  processes: readonly LimiterProcess[],
  instances: number,
  limit: number,
): Promise<BenchLine[]> {
  const keyId = `busy-${limit}-${Date.now()}`;
  // Together as many calls a second as above, whatever the number of instances.
  const run = (ms: number): Promise<Report[]> => {
    const calls = Math.round((RATE * ms) / 1_000 / instances);
    const job = { keyId, limits: [{ max: limit, windowMs: 60_000 }], instances, calls, spreadMs: ms };
    return Promise.all(processes.map((process) => process.run(job)));
  };
  await run(WARM_UP_MS);
  const reports = await run(MEASURED_MS);
  const admitted = total(reports, 'admitted');
  const answered = reports.reduce((sum, { latenciesMs }) => sum + latenciesMs.length, 0);
  const sum = (of: (report: Report) => number): number => reports.reduce((all, report) => all + of(report), 0);
  const operations = sum((report) => report.operations) / admitted;
  const p99Ms = quantileMs(reports, 0.99);
  const name = `limiter, ${GATEWAYS * instances} instances, ${GATEWAYS * RATE} calls/s, limit ${limit} a minute`;
  const lost = `${sum((report) => report.lost)} commits lost to another instance`;
  return [
    {
      name: `${name}: operations a call`,
      value: operations,
      unit: 'operations/call',
      target: '<= 0.1',
      met: operations <= 0.1 && admitted === answered,
      notes: `${lost}, counted; ${answered - admitted} of ${answered} calls not admitted`,
    },
    {
      name: `${name}: p99`,
      value: p99Ms,
      unit: 'ms',
      target: '<= 10 ms, half a round trip',
      met: p99Ms <= ROUND_TRIP_MS / 2,
      notes: `p50 ${quantileMs(reports, 0.5).toFixed(2)} ms`,
    },
  ];
}

if (process.argv[1] === import.meta.filename) printLines(await run());
