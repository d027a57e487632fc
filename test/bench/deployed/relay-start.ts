// Measures the first prompt of a function without instances whose companion has none either, from the built bundles
// under the stock CLI, against the time of both starts one after the other. The companion starts at its first
// connection, as the platform starts one.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { Deployed } from '../../support/fixtures/gateway/deployed.ts';
import type { Program } from '../../support/fixtures/gateway/local-gateway.ts';
import { type BenchLine, median, printLines } from '../support/bench.ts';
import { deployForBench, HEADERS, PROMPT } from '../support/deployed.ts';
import { post } from '../support/prompt-client.ts';

const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 5);
const WAKE_TARGET = 0.7;
/** Needs a processor for each of the two. */
const TARGET = 0.9;

export async function run(): Promise<BenchLine[]> {
  const deployed = await deployForBench();
  try {
    const warm = await deployed.startCompanion();
    const rounds: { together: number; fn: number; companion: number; wakes: number; listens: number }[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      const measured = {
        ...(await wakeMs(deployed)),
        together: await withColdCompanion(deployed, (url) => firstPromptMs(deployed, url)),
        fn: await firstPromptMs(deployed, warm.url),
        companion: await withColdCompanion(deployed, firstAnswerMs),
      };
      // The first round fills the file cache.
      if (round > 0) rounds.push(measured);
    }
    const times = median(rounds.map(({ together, fn, companion }) => together / (fn + companion)));
    const middle = (name: 'fn' | 'companion'): string => median(rounds.map((round) => round[name])).toFixed(0);
    const share = median(rounds.map(({ wakes, listens }) => wakes / listens));
    return [
      {
        name: 'spawn of a cold function to its first connection to the companion',
        value: median(rounds.map(({ wakes }) => wakes)),
        unit: 'ms',
        baseline: median(rounds.map(({ listens }) => listens)),
        baselineName: 'until it listens',
        ratio: 1 / share,
        target: `<= ${WAKE_TARGET}x of the baseline`,
        met: share <= WAKE_TARGET,
      },
      {
        name: 'first prompt of a cold function and a cold companion',
        value: median(rounds.map(({ together }) => together)),
        unit: 'ms',
        baseline: median(rounds.map(({ fn, companion }) => fn + companion)),
        baselineName: 'one start after the other',
        ratio: 1 / times,
        target: `<= ${TARGET}x of the baseline`,
        met: times <= TARGET,
        notes: `takes ${times.toFixed(2)}x the time; function ${middle('fn')} ms, companion ${middle('companion')} ms`,
      },
    ];
  } finally {
    await deployed.close();
  }
}

/** From the spawn of the function to its first answer. */
async function firstPromptMs(deployed: Deployed, companionUrl: string): Promise<number> {
  const startMs = performance.now();
  const fn = await deployed.startFunction(companionUrl);
  const { body } = await post(`${fn.url}/jsonrpc`, PROMPT, HEADERS);
  const elapsedMs = performance.now() - startMs;
  if (!body.includes('ai_response')) throw new Error(`prompt failed: ${body.slice(0, 300)}`);
  await fn.stop('SIGKILL');
  return elapsedMs;
}

/** From the spawn of the function to its connection to the companion, and until it listens. */
async function wakeMs(deployed: Deployed): Promise<{ readonly wakes: number; readonly listens: number }> {
  const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const startMs = performance.now();
  const connected = once(server, 'connection').then(() => performance.now() - startMs);
  const fn = await deployed.startFunction(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const listens = performance.now() - startMs;
  const wakes = await connected;
  await fn.stop('SIGKILL');
  server.close();
  return { wakes, listens };
}

async function firstAnswerMs(companionUrl: string): Promise<number> {
  const startMs = performance.now();
  const answer = await fetch(`${companionUrl}/health`);
  if (!answer.ok) throw new Error(`the companion answered ${answer.status}`);
  return performance.now() - startMs;
}

/** An address at which the first connection starts a companion. */
async function withColdCompanion(deployed: Deployed, work: (url: string) => Promise<number>): Promise<number> {
  let started: Promise<Program> | undefined;
  const sockets = new Set<Socket>();
  const server = createServer(async (socket) => {
    sockets.add(socket.on('error', () => {}));
    started ??= deployed.startCompanion();
    const { port } = new URL((await started).url);
    const upstream = connect(Number(port), '127.0.0.1');
    sockets.add(upstream.on('error', () => {}));
    socket.pipe(upstream).pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    return await work(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
    (await started)?.child.kill('SIGKILL');
  }
}

if (process.argv[1] === import.meta.filename) printLines(await run());
