// Measures an authenticated call (key, limiter, method, log; store in memory) through the stock functions-framework
// CLI, against a minimal function there: an echo of the body, without key, limiter, method and log.
import autocannon from 'autocannon';
import { type BenchLine, median, printLines } from '../support/bench.ts';
import { cli, freePort, KEY, prepareFunctions } from '../support/functions.ts';
import { type Server, startServer } from '../support/processes.ts';

const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 5);
const SECONDS = 3;
const CONNECTIONS = 32;
const TARGET = 0.8;
const HEADERS = { 'content-type': 'application/json', 'x-api-key': KEY };

interface Round {
  readonly perSecond: number;
  readonly p99Ms: number;
}

export async function run(): Promise<BenchLine[]> {
  const { bundle, echo } = await prepareFunctions();
  const gateway = await startFunction(bundle, 'jsonrpc', {
    GATEWAY_STORE: 'memory',
    GATEWAY_API_KEY: KEY,
    GATEWAY_LIMITS: '1000000000/minute',
  });
  const baseline = await startFunction(echo, 'echo');
  try {
    const session = await prompt(gateway.url);
    const rounds: { gateway: Round; baseline: Round }[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      const measured = { gateway: await load(gateway.url, session), baseline: await load(baseline.url, session) };
      // The first round warms both up.
      if (round > 0) rounds.push(measured);
    }
    const ratio = median(rounds.map((round) => round.gateway.perSecond / round.baseline.perSecond));
    const p99 = median(rounds.map((round) => round.gateway.p99Ms));
    const baselineP99 = median(rounds.map((round) => round.baseline.p99Ms));
    return [
      {
        name: 'authenticated conversation.status through the functions-framework CLI, store in memory',
        value: median(rounds.map((round) => round.gateway.perSecond)),
        unit: 'req/s',
        baseline: median(rounds.map((round) => round.baseline.perSecond)),
        baselineName: 'empty functions-framework echo',
        ratio,
        target: `>= ${TARGET}x`,
        met: ratio >= TARGET,
        notes: `p99 ${p99} ms, echo ${baselineP99} ms, ${CONNECTIONS} connections`,
      },
    ];
  } finally {
    await Promise.all([gateway.stop(), baseline.stop()]);
  }
}

async function startFunction(source: string, target: string, env: Record<string, string> = {}): Promise<Server> {
  const port = String(await freePort());
  return startServer(cli(source, target), /URL: (http:\S+)\//, { PORT: port, ...env });
}

async function load(url: string, session: string): Promise<Round> {
  const result = await autocannon({
    url,
    method: 'POST',
    headers: HEADERS,
    body: call('conversation.status', { session_id: session }),
    connections: CONNECTIONS,
    duration: SECONDS,
  });
  if (result.non2xx > 0 || result.errors > 0)
    throw new Error(`${result.non2xx} responses without success, ${result.errors} errors`);
  return { perSecond: result.requests.average, p99Ms: result.latency.p99 };
}

async function prompt(url: string): Promise<string> {
  const body = call('conversation.prompt', { prompt: 'Hello', session_id: 'bench' });
  const response = await fetch(url, { method: 'POST', headers: HEADERS, body });
  if (response.status !== 200) throw new Error(`the session could not be made: ${response.status}`);
  return 'bench';
}

function call(method: string, params: object): string {
  return JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 });
}

if (process.argv[1] === import.meta.filename) printLines(await run());
