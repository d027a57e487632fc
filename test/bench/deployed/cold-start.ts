// Measures the time from the spawn of the stock CLI to the first response: the jsonrpc function (first authorised
// response, on Firestore) against a hello world and against a minimal function that reads one document, and health
// against a hello world. The figures are medians of interleaved rounds. The functions have the compile cache that the
// build of a deployment fills; the baselines are as in the quickstarts, without one.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import { startFirestoreEmulator } from '../../support/fixtures/database/emulators.ts';
import { type BenchLine, median, printLines } from '../support/bench.ts';
import { cli, fillCompileCache, freePort, KEY, prepareFunctions } from '../support/functions.ts';

const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 11);
const RETRY_MS = 2;
const START_TIMEOUT_MS = 20_000;

interface Subject {
  readonly source: string;
  readonly target: string;
  readonly env: Readonly<Record<string, string>>;
  readonly body?: string;
}

export async function run(): Promise<BenchLine[]> {
  const { bundle, hello, read } = await prepareFunctions();
  const NODE_COMPILE_CACHE = await fillCompileCache(bundle);
  const emulator = await startFirestoreEmulator();
  try {
    const env = {
      FIRESTORE_EMULATOR_HOST: emulator.host,
      GOOGLE_CLOUD_PROJECT: 'cold-start',
      METADATA_SERVER_DETECTION: 'none',
      NODE_ENV: 'production',
      GATEWAY_API_KEY: KEY,
    };
    const body = JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'conversation.status',
      params: { session_id: 'none' },
    });
    const ownEnv = { ...env, NODE_COMPILE_CACHE };
    const jsonrpc = { source: bundle, target: 'jsonrpc', env: ownEnv, body };
    const health = { source: bundle, target: 'health', env: ownEnv };
    const minimal = { source: read, target: 'read', env };
    const world = { source: hello, target: 'hello', env };
    const name = 'cold start of jsonrpc, to the first authorised answer';
    return [
      await compare(name, jsonrpc, 'one Firestore read', minimal, 1.25),
      await compare(`${name}, against a hello world`, jsonrpc, 'hello world', world, 2.2),
      await compare('cold start of health', health, 'hello world', world, 1.15),
    ];
  } finally {
    await emulator.stop();
  }
}

async function compare(
  name: string,
  ours: Subject,
  baselineName: string,
  baseline: Subject,
  factor: number,
): Promise<BenchLine> {
  const rounds: { ours: number; baseline: number }[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    // Alternating order, so that a machine that becomes slower or faster meanwhile favours neither.
    const first = round % 2 === 0 ? await firstResponseMs(ours) : undefined;
    const base = await firstResponseMs(baseline);
    const measured = { ours: first ?? (await firstResponseMs(ours)), baseline: base };
    // The first round fills the file cache for both.
    if (round > 0) rounds.push(measured);
  }
  const value = median(rounds.map((round) => round.ours));
  const base = median(rounds.map((round) => round.baseline));
  const times = median(rounds.map((round) => round.ours / round.baseline));
  return {
    name,
    value,
    unit: 'ms',
    baseline: base,
    baselineName,
    ratio: 1 / times,
    target: `<= ${factor}x of the baseline`,
    met: times <= factor,
    notes: `takes ${times.toFixed(2)}x the time`,
  };
}

async function firstResponseMs({ source, target, env, body }: Subject): Promise<number> {
  const port = await freePort();
  const startedMs = performance.now();
  const child = spawn(process.execPath, cli(source, target), {
    env: { PATH: process.env.PATH, PORT: String(port), ...env },
    stdio: 'ignore',
  });
  const exited = once(child, 'exit');
  try {
    for (;;) {
      const response = await request(port, body);
      const elapsedMs = performance.now() - startedMs;
      if (response !== undefined) {
        if (response.statusCode !== 200) throw new Error(`${target} returned ${response.statusCode}`);
        return elapsedMs;
      }
      if (elapsedMs > START_TIMEOUT_MS || child.exitCode !== null) throw new Error(`${target} did not start`);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  } finally {
    child.kill('SIGKILL');
    await exited;
  }
}

/** The response, read to its end; undefined while nothing listens. */
function request(port: number, body: string | undefined): Promise<IncomingMessage | undefined> {
  return new Promise((resolve, reject) => {
    const req = http.request({
      port,
      host: '127.0.0.1',
      agent: false,
      method: body === undefined ? 'GET' : 'POST',
      headers: { 'x-api-key': KEY, 'content-type': 'application/json' },
    });
    req.on('response', (response) => response.resume().on('end', () => resolve(response)));
    req.on('error', (error) => ('code' in error && error.code === 'ECONNREFUSED' ? resolve(undefined) : reject(error)));
    req.end(body);
  });
}

if (process.argv[1] === import.meta.filename) printLines(await run());
