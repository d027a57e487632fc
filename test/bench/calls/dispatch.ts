// Measures an authenticated conversation.status through the local server (embedded store, limiter and log on) against a
// bare node:http echo.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import autocannon from 'autocannon';
import { type BenchLine, median, printLines } from '../support/bench.ts';
import { startServer } from '../support/processes.ts';

const ROUNDS = 5;
const SECONDS = 3;
const CONNECTIONS = 32;
const TARGET = 0.35;

const BODY = JSON.stringify({ jsonrpc: '2.0', method: 'conversation.status', params: { session_id: 'bench' }, id: 1 });

interface Round {
  readonly perSecond: number;
  readonly p99Ms: number;
}

export async function run(): Promise<BenchLine[]> {
  const dataDir = await mkdtemp(join(tmpdir(), 'gateway-bench-'));
  const gateway = await startServer(['functions/local/main.ts'], /gateway ready at (\S+)/, {
    PORT: '0',
    GATEWAY_DATA_DIR: dataDir,
    GATEWAY_API_KEY: 'bench-key',
    GATEWAY_LIMITS: '1000000000/minute',
    GATEWAY_LOG: 'json',
  });
  const bare = await startServer(['test/bench/support/bare-echo.ts'], /echo ready at (\S+)/);
  try {
    await prompt(gateway.url);
    const rounds: { gateway: Round; bare: Round }[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      const measured = { gateway: await load(`${gateway.url}/jsonrpc`), bare: await load(bare.url) };
      // The first round warms both up.
      if (round > 0) rounds.push(measured);
    }
    const ratio = median(rounds.map((round) => round.gateway.perSecond / round.bare.perSecond));
    const p99 = median(rounds.map((round) => round.gateway.p99Ms));
    const bareP99 = median(rounds.map((round) => round.bare.p99Ms));
    return [
      {
        name: 'authenticated conversation.status, embedded store',
        value: median(rounds.map((round) => round.gateway.perSecond)),
        unit: 'req/s',
        baseline: median(rounds.map((round) => round.bare.perSecond)),
        baselineName: 'bare node:http JSON echo',
        ratio,
        target: `>= ${TARGET}x`,
        met: ratio >= TARGET,
        notes: `p99 ${p99} ms, bare ${bareP99} ms, ${CONNECTIONS} connections`,
      },
    ];
  } finally {
    await Promise.all([gateway.stop(), bare.stop()]);
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function load(url: string): Promise<Round> {
  const result = await autocannon({
    url,
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-api-key': 'bench-key' },
    body: BODY,
    connections: CONNECTIONS,
    duration: SECONDS,
  });
  if (result.non2xx > 0 || result.errors > 0)
    throw new Error(`${result.non2xx} responses without success, ${result.errors} errors`);
  return { perSecond: result.requests.average, p99Ms: result.latency.p99 };
}

async function prompt(url: string): Promise<void> {
  const response = await fetch(`${url}/jsonrpc`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-api-key': 'bench-key' },
    body: JSON.stringify({
      jsonrpc: '2.0',
      method: 'conversation.prompt',
      params: { prompt: 'Hello', session_id: 'bench' },
      id: 1,
    }),
  });
  if (response.status !== 200) throw new Error(`the session could not be made: ${response.status}`);
}

if (process.argv[1] === import.meta.filename) printLines(await run());
