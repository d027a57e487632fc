// Measures the requests that need the most memory, several at once, on a process with the heap of 256 MiB that V8 takes
// on an instance of 512 MiB: its highest resident memory, and the latency of `/health` meanwhile.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { fillSession, MIXES, probeHealth, startBackend } from '../../support/fixtures/process/worst-mixes.ts';
import { type BenchLine, printLines } from '../support/bench.ts';

const MEMORY_MIB = 512;
const HEALTH_P99_MS = 250;
const SETTLE_MS = 2_000;

export async function run(): Promise<BenchLine[]> {
  const backend = await startBackend();
  const gateway = await startLocalGateway({
    // MALLOC_MMAP_THRESHOLD_ as in terraform/functions.tf.
    env: { GATEWAY_LIMITS: '1000000000/minute', MALLOC_MMAP_THRESHOLD_: '131072', ...backend.env },
    nodeArgs: ['--max-heap-size=256'],
  });
  const sizes = { url: gateway.url, messages: 90, requests: 20, streams: 100 };
  const lines: BenchLine[] = [];
  try {
    await fillSession(sizes);
    // The work after 90 commits of 1 MB (checkpoint, ledger, garbage collection) is not part of the first mix.
    await sleep(SETTLE_MS);
    for (const [name, mix] of Object.entries(MIXES)) {
      let outcomes: Readonly<Record<string, number>> = {};
      const tookMs = await probeHealth(gateway.url, async () => {
        outcomes = await mix(sizes);
      });
      const p99 = tookMs[Math.floor(tookMs.length * 0.99)] ?? Number.POSITIVE_INFINITY;
      lines.push({
        name: `/health p99 during ${name}`,
        value: p99,
        unit: 'ms',
        target: `<= ${HEALTH_P99_MS}`,
        met: p99 <= HEALTH_P99_MS,
        notes: Object.entries(outcomes)
          .map(([outcome, count]) => `${outcome}: ${count}`)
          .join(', '),
      });
    }
    const highest = highestRssMib(gateway.child.pid ?? 0);
    lines.push({
      name: 'highest resident memory of all of them, one after another',
      value: highest,
      unit: 'MiB',
      target: `<= ${MEMORY_MIB}`,
      met: highest <= MEMORY_MIB,
    });
  } finally {
    await gateway.stop();
    backend.close();
  }
  return lines;
}

function highestRssMib(pid: number): number {
  return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}

if (process.argv[1] === import.meta.filename) printLines(await run());
