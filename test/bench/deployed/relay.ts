// Measures what it costs that the companion answers the prompts of the jsonrpc function, from the built bundles:
// processor time of the function for each streamed piece, and the time that it adds to a prompt, both against a bare
// node:http relay.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { encodeReport, REPORT_HEADER } from '../../../shared/forward/exchange.ts';
import type { Deployed } from '../../support/fixtures/gateway/deployed.ts';
import { type BenchLine, median, printLines } from '../support/bench.ts';
import { deployForBench, HEADERS, PROMPT } from '../support/deployed.ts';
import { MEASURED, processorUs } from '../support/processor-time.ts';
import { load, post } from '../support/prompt-client.ts';

const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 5);
const STREAMS = 20;
const PIECES = 400;
const EVERY_MS = 5;
const CPU_TARGET = 1.5;
const PROMPTS = 200;
const HOP_TARGET = 2;
const STREAM_HEADERS = { ...HEADERS, accept: 'text/event-stream' };
const EVENT = {
  session_id: 'sess_0123456789abcdef',
  conversation_id: 'conv_0123456789abcdef',
  turn_id: 'turn_01234567',
};

export async function run(): Promise<BenchLine[]> {
  const deployed = await deployForBench();
  try {
    return [await measurePieces(deployed), await measureHop(deployed)];
  } finally {
    await deployed.close();
  }
}

async function measurePieces(deployed: Deployed): Promise<BenchLine> {
  const source = createServer((req, res) => {
    req.resume();
    sendPieces(res);
  });
  source.listen(0, '127.0.0.1');
  await once(source, 'listening');
  const sourceUrl = `http://127.0.0.1:${(source.address() as AddressInfo).port}`;
  const fn = await deployed.startFunction(sourceUrl, MEASURED);
  const bare = await startBare(`${sourceUrl}/exchange`);
  try {
    const rounds: { ours: number; bare: number }[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      const measured = {
        ours: await microsecondsPerPiece(fn.child, fn.url),
        bare: await microsecondsPerPiece(bare.child, bare.url),
      };
      // The first round warms both up.
      if (round > 0) rounds.push(measured);
    }
    const times = median(rounds.map((round) => round.ours / round.bare));
    return {
      name: 'processor time of the function for a streamed piece',
      value: median(rounds.map((round) => round.ours)),
      unit: 'us',
      baseline: median(rounds.map((round) => round.bare)),
      baselineName: 'bare node:http relay',
      ratio: 1 / times,
      target: `<= ${CPU_TARGET}x of the baseline`,
      met: times <= CPU_TARGET,
      notes: `takes ${times.toFixed(2)}x, ${STREAMS} streams of ${PIECES} pieces, one every ${EVERY_MS} ms`,
    };
  } finally {
    bare.child.kill('SIGKILL');
    await fn.stop('SIGKILL');
    source.closeAllConnections();
    source.close();
  }
}

/** As the companion streams a turn. */
function sendPieces(res: ServerResponse): void {
  res.writeHead(200, {
    'Content-Type': 'text/event-stream; charset=utf-8',
    'Cache-Control': 'no-store, no-transform',
    [REPORT_HEADER]: encodeReport(0, undefined),
  });
  let seq = 0;
  const timer = setInterval(() => {
    const params = { ...EVENT, seq: ++seq, event: { AgentMessageDelta: { delta: ' a few words' } } };
    const message = JSON.stringify({ jsonrpc: '2.0', method: 'conversation.event', params });
    res.write(`id: ${EVENT.turn_id}:${seq}\ndata: ${message}\n\n`);
    if (seq < PIECES) return;
    clearInterval(timer);
    res.end();
  }, EVERY_MS);
}

async function microsecondsPerPiece(child: ChildProcess, url: string): Promise<number> {
  const before = await processorUs(child);
  await Promise.all(Array.from({ length: STREAMS }, () => post(`${url}/jsonrpc`, PROMPT, STREAM_HEADERS)));
  return ((await processorUs(child)) - before) / (STREAMS * PIECES);
}

async function startBare(target: string): Promise<{ readonly child: ChildProcess; readonly url: string }> {
  const child = spawn(process.execPath, [join(import.meta.dirname, '../support/bare-relay.ts'), target], {
    env: { PATH: process.env.PATH, ...MEASURED },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const found = /relay ready at (\S+)/.exec(line);
    if (found?.[1] === undefined) continue;
    child.stdout.resume();
    return { child, url: found[1] };
  }
  throw new Error('the bare relay did not start');
}

async function measureHop(deployed: Deployed): Promise<BenchLine> {
  const { fn } = await deployed.start();
  const local = await deployed.startFunction(undefined, { GATEWAY_LOG: 'json' });
  const bare = await startBare(`${local.url}/jsonrpc`);
  try {
    const rounds: { ours: number; bare: number; local: number }[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      const measured = {
        ours: await promptMs(fn.url),
        bare: await promptMs(bare.url),
        local: await promptMs(local.url),
      };
      if (round > 0) rounds.push(measured);
    }
    const addedMs = median(rounds.map((round) => round.ours - round.local));
    const bareMs = median(rounds.map((round) => round.bare - round.local));
    return {
      name: 'prompt on the companion, p50 added to that of a prompt in the function',
      value: addedMs,
      unit: 'ms',
      baseline: bareMs,
      baselineName: 'added by a bare node:http relay',
      ratio: bareMs / addedMs,
      target: `<= ${HOP_TARGET}x of the baseline`,
      met: addedMs <= HOP_TARGET * bareMs,
      notes: `a prompt in the function ${median(rounds.map((round) => round.local)).toFixed(2)} ms`,
    };
  } finally {
    bare.child.kill('SIGKILL');
    await local.stop('SIGKILL');
  }
}

async function promptMs(url: string): Promise<number> {
  const { ms } = await load(PROMPTS, 1, async () => {
    const answer = await post(`${url}/jsonrpc`, PROMPT, HEADERS);
    if (!answer.body.includes('ai_response')) throw new Error(`prompt failed: ${answer.body.slice(0, 300)}`);
    return answer.ms;
  });
  return median(ms);
}

if (process.argv[1] === import.meta.filename) printLines(await run());
