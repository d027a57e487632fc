// Measures a sandboxed `exec true` through the gateway against a bare bwrap spawn, and the latency of other calls
// beside 16 busy commands.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { Agent } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BenchLine, median, printLines } from '../support/bench.ts';
import { postCall } from '../support/post-call.ts';
import { startServer } from '../support/processes.ts';

const SPAWNS = 100;
const SAMPLE_MS = 4_000;
const SAMPLES_MIN = 200;
const ROUNDS = 3;
const PARALLEL = 16;
const SPAWN_TARGET = 2;
const P99_TARGET = 2;
const BARE = ['--unshare-all', '--die-with-parent', '--new-session', '--ro-bind', '/', '/', 'true'];
/** About 100 ms of one processor. */
const BUSY = 'i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done';

export async function run(): Promise<BenchLine[]> {
  const dataDir = await mkdtemp(join(tmpdir(), 'gateway-bench-'));
  const env = {
    PORT: '0',
    GATEWAY_DATA_DIR: dataDir,
    GATEWAY_API_KEY: 'bench-key',
    GATEWAY_LIMITS: '1000000000/minute',
    GATEWAY_LOG: 'json',
  };
  // Not pinned: how the gateway and its commands share the cores is part of what is measured.
  const gateway = await startServer(['functions/local/main.ts'], /gateway ready at (\S+)/, env, 'any');
  const agent = new Agent({ keepAlive: true });
  const call = (method: string, params: object): Promise<void> =>
    postCall(agent, gateway.url, 'bench-key', method, params);
  const exec = (...argv: [string, ...string[]]) => call('exec', { command: argv[0], args: argv.slice(1) });
  const status = () => call('conversation.status', { session_id: 'bench' });
  try {
    const spawns: { exec: number; bare: number }[] = [];
    for (let index = -10; index < SPAWNS; index++) {
      const measured = { exec: await time(() => exec('true')), bare: await time(bareSpawn) };
      // The first ones warm up.
      if (index >= 0) spawns.push(measured);
    }
    const execMs = median(spawns.map((each) => each.exec));
    const bareMs = median(spawns.map((each) => each.bare));

    await p99Of(status);
    const rounds: { idle: number; loaded: number; served: number }[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const idle = await p99Of(status);
      let isOver = false;
      let served = 0;
      const load = Array.from({ length: PARALLEL }, async () => {
        for (; !isOver; served++) await exec('sh', '-c', BUSY);
      });
      const loaded = await p99Of(status);
      isOver = true;
      await Promise.all(load);
      rounds.push({ idle, loaded, served });
    }
    const idle = median(rounds.map((round) => round.idle));
    const loaded = median(rounds.map((round) => round.loaded));
    return [
      {
        name: 'exec true in the sandbox, through the gateway',
        value: execMs,
        unit: 'ms',
        baseline: bareMs,
        baselineName: 'bare bwrap spawn',
        ratio: execMs / bareMs,
        target: `<= ${SPAWN_TARGET}x`,
        met: execMs <= bareMs * SPAWN_TARGET,
      },
      {
        name: `conversation.status p99 beside ${PARALLEL} busy execs`,
        value: loaded,
        unit: 'ms',
        baseline: idle,
        baselineName: 'idle p99',
        ratio: loaded / idle,
        target: `< ${P99_TARGET}x`,
        met: loaded < idle * P99_TARGET,
        notes: `${rounds.map((round) => round.served).join(', ')} commands served`,
      },
    ];
  } finally {
    agent.destroy();
    await gateway.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function time(work: () => Promise<void>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return performance.now() - startedMs;
}

async function p99Of(work: () => Promise<void>): Promise<number> {
  const times: number[] = [];
  const startedMs = performance.now();
  while (times.length < SAMPLES_MIN || performance.now() - startedMs < SAMPLE_MS) times.push(await time(work));
  return times.sort((a, b) => a - b)[Math.floor(times.length * 0.99)] ?? 0;
}

async function bareSpawn(): Promise<void> {
  const child = spawn('bwrap', BARE, { stdio: 'ignore' });
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error(`bwrap ended with ${code}`);
}

if (process.argv[1] === import.meta.filename) printLines(await run());
