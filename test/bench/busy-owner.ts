// One owner on four gateways, Firestore's emulator 20 ms away: conversation.status at 50 calls a second on each,
// against one gateway alone at the same rate. And what the limiter of four processes spends on a call.
import { randomBytes } from 'node:crypto';
import { Agent } from 'node:http';
import { startDelayProxy } from '../support/fixtures/delay-proxy.ts';
import { startFirestoreEmulator } from '../support/fixtures/emulators.ts';
import { startLimiterProcesses, total } from '../support/fixtures/limiter-processes.ts';
import { type LocalGateway, startLocalGateway } from '../support/fixtures/local-gateway.ts';
import { type BenchLine, printLines } from './bench.ts';
import { postCall } from './post-call.ts';

const ROUND_TRIP_MS = 20;
const GATEWAYS = 4;
const RATE = 50;
const WARM_UP_MS = 4_000;
const MEASURED_MS = Number(process.env.BENCH_SECONDS ?? 30) * 1_000;
const LIMITS = [60_000, 13_000];
const KEY = 'bench-key';

export async function run(): Promise<BenchLine[]> {
  const emulator = await startFirestoreEmulator();
  const proxy = await startDelayProxy(emulator.host, ROUND_TRIP_MS);
  try {
    const lines: BenchLine[] = [];
    for (const limit of LIMITS) lines.push(...(await gateways(proxy.host, limit)));
    return [...lines, await operations(proxy.host)];
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
    GATEWAY_API_KEY: KEY,
    GATEWAY_BUS: 'local',
    GATEWAY_LIMITS: `${limit}/minute`,
  };
  const all: LocalGateway[] = [await startLocalGateway({ env })];
  try {
    const calm = await load(all);
    all.push(...(await Promise.all(Array.from({ length: GATEWAYS - 1 }, () => startLocalGateway({ env })))));
    const busy = await load(all);
    return [
      line(`busy owner, limit ${limit} a minute: p50`, 'p50Ms', busy, calm, 1.2),
      line(`busy owner, limit ${limit} a minute: p99`, 'p99Ms', busy, calm, 1.5),
    ];
  } finally {
    await Promise.all(all.map((gateway) => gateway.stop()));
  }
}

function line(name: string, of: 'p50Ms' | 'p99Ms', busy: Load, calm: Load, part: number): BenchLine {
  const [value, baseline] = [busy[of], calm[of]];
  const [failure] = busy.failures;
  return {
    name: `${name} of ${GATEWAYS} x ${RATE} calls/s`,
    value,
    unit: 'ms',
    baseline,
    baselineName: `one instance at ${RATE} calls/s`,
    ratio: baseline / value,
    target: `<= ${part}x of the baseline`,
    met: value <= part * baseline && failure === undefined,
    ...(failure && { notes: `${busy.failures.length} calls failed: ${failure.message}` }),
  };
}

interface Load {
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Of calls that were not answered with a result. */
  readonly failures: readonly Error[];
}

const toError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)));

/** The first connection to the store may take longer than a call may wait. */
async function untilReady({ url }: LocalGateway, agent: Agent): Promise<void> {
  for (let attempt = 0; attempt < 30; attempt++) {
    const failure = await postCall(agent, url, KEY, 'conversation.status', { session_id: 'bench' }).catch(toError);
    if (failure === undefined) return;
    await new Promise((resolve) => setTimeout(resolve, 1_000));
  }
}

/** Each gateway gets a call every 20 ms, whether or not the earlier ones have returned. */
async function load(all: readonly LocalGateway[]): Promise<Load> {
  const agent = new Agent({ keepAlive: true });
  await Promise.all(all.map((gateway) => untilReady(gateway, agent)));
  const latenciesMs: number[] = [];
  const failures: Error[] = [];
  const startMs = performance.now();
  const calls = all.flatMap(({ url }, index) =>
    Array.from({ length: ((WARM_UP_MS + MEASURED_MS) * RATE) / 1_000 }, async (_, call) => {
      const atMs = (call * 1_000) / RATE + (index * 1_000) / RATE / all.length;
      await new Promise((resolve) => setTimeout(resolve, atMs));
      const sentMs = performance.now();
      const failure = await postCall(agent, url, KEY, 'conversation.status', { session_id: 'bench' }).catch(toError);
      if (sentMs - startMs <= WARM_UP_MS) return;
      latenciesMs.push(performance.now() - sentMs);
      if (failure !== undefined) failures.push(failure);
    }),
  );
  await Promise.all(calls);
  agent.destroy();
  latenciesMs.sort((a, b) => a - b);
  const quantile = (part: number): number => latenciesMs[Math.floor(part * (latenciesMs.length - 1))] ?? Number.NaN;
  return { p50Ms: quantile(0.5), p99Ms: quantile(0.99), failures };
}

async function operations(host: string): Promise<BenchLine> {
  const processes = await startLimiterProcesses(GATEWAYS, host, { projectId: 'bench-busy-owner' });
  try {
    const seconds = 20;
    const job = {
      keyId: `busy-${Date.now()}`,
      limits: [{ max: 60_000, windowMs: 60_000 }],
      calls: RATE * seconds,
      spreadMs: seconds * 1_000,
    };
    const reports = await Promise.all(processes.map((process) => process.run(job)));
    const spent = reports.reduce((sum, report) => sum + report.operations, 0);
    const value = spent / total(reports, 'admitted');
    return {
      name: `busy owner, ${GATEWAYS} processes x ${RATE} calls/s: limiter operations a call`,
      value,
      unit: 'operations/call',
      target: '<= 0.1',
      met: value <= 0.1 && total(reports, 'admitted') === GATEWAYS * RATE * seconds,
      notes: `${reports.reduce((sum, { lost }) => sum + lost, 0)} commits lost to another instance, counted`,
    };
  } finally {
    await Promise.all(processes.map((process) => process.stop()));
  }
}

if (import.meta.main) printLines(await run());
