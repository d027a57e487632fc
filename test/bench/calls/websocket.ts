// Measures WebSockets against a bare ws server: calls per second, memory per idle connection, and the memory for a
// client that does not read. Run alone with `node test/bench/calls/websocket.ts`.
import { type ChildProcess, fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import WebSocket from 'ws';
import { type BenchLine, median, printLines } from '../support/bench.ts';

const SERVER = fileURLToPath(new URL('../support/websocket-server.ts', import.meta.url));
/** Whether the server can be pinned to its own core. */
const CAN_PIN = spawnSync('taskset', ['-V']).status === 0;
const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3);
const CLIENTS = 32;
/** Calls in flight per client, below the maximum of a connection. */
const DEPTH = 16;
const MEASURE_MS = 3_000;
const WARM_UP_MS = 1_000;
const IDLE = 5_000;
const HEADERS = { 'X-API-Key': 'dev-key' };

interface Memory {
  readonly rss: number;
  /** Heap and external memory of its objects. */
  readonly used: number;
}

interface BenchServer {
  readonly url: string;
  memory(): Promise<Memory>;
}

/** Starts and stops each server, one at a time. */
export async function run(): Promise<BenchLine[]> {
  const bare: number[] = [];
  const ours: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    bare.push(await withServer('bare', throughput));
    ours.push(await withServer('gateway', throughput));
  }
  const perSecond = median(ours);
  const ratio = perSecond / median(bare);
  const bareIdle = await withServer('bare', idle);
  const ourIdle = await withServer('gateway', idle);
  const idleRatio = ourIdle.used / bareIdle.used;
  const floodBytes = await withServer('gateway', stalledReader);
  return [
    {
      name: 'WebSocket calls, authenticated, limited',
      value: perSecond,
      unit: 'calls/s',
      baseline: median(bare),
      baselineName: 'bare ws echo',
      ratio,
      target: '>= 0.6x',
      met: ratio >= 0.6,
      notes: `${CLIENTS} connections x ${DEPTH} under way`,
    },
    {
      name: `WebSocket memory per idle connection, of ${IDLE}`,
      value: ourIdle.used / 1024,
      unit: 'KiB',
      baseline: bareIdle.used / 1024,
      baselineName: 'bare ws',
      target: '<= 2x',
      met: idleRatio <= 2,
      notes: `${idleRatio.toFixed(2)}x; RSS ${(ourIdle.rss / 1024).toFixed(1)} against ${(bareIdle.rss / 1024).toFixed(1)} KiB`,
    },
    {
      name: 'WebSocket reader that reads nothing of an endless stream',
      value: floodBytes / (1 << 20),
      unit: 'MiB',
      target: '< 20',
      met: floodBytes < 20 << 20,
      notes: 'growth of the server’s RSS, the worst of 5 s',
    },
  ];
}

/** Responses per second: each client sends its next call after a response. Both servers receive the same bytes. */
async function throughput({ url }: BenchServer): Promise<number> {
  const call = JSON.stringify({ jsonrpc: '2.0', method: 'bench.noop', params: {}, id: 1 });
  const sockets = await Promise.all(Array.from({ length: CLIENTS }, () => connect(url)));
  let responses = 0;
  for (const socket of sockets) {
    socket.on('message', () => {
      responses++;
      socket.send(call);
    });
    for (let n = 0; n < DEPTH; n++) socket.send(call);
  }
  await pause(WARM_UP_MS);
  const before = responses;
  const startMs = performance.now();
  await pause(MEASURE_MS);
  const perSecond = ((responses - before) * 1_000) / (performance.now() - startMs);
  for (const socket of sockets) socket.terminate();
  return perSecond;
}

/** Bytes per idle connection. */
async function idle(server: BenchServer): Promise<Memory> {
  const warm = await Promise.all(Array.from({ length: 100 }, () => connect(server.url)));
  await pause(500);
  const before = await server.memory();
  const sockets: WebSocket[] = [];
  while (sockets.length < IDLE) {
    sockets.push(...(await Promise.all(Array.from({ length: 100 }, () => connect(server.url)))));
  }
  await pause(1_000);
  const after = await server.memory();
  for (const socket of [...warm, ...sockets]) socket.terminate();
  return { rss: (after.rss - before.rss) / IDLE, used: (after.used - before.used) / IDLE };
}

/** Growth of the server's RSS in bytes while a client does not read the response of its call. */
async function stalledReader(server: BenchServer): Promise<number> {
  const socket = await connect(server.url);
  await pause(300);
  const before = await server.memory();
  socket.pause();
  socket.send(JSON.stringify({ jsonrpc: '2.0', method: 'bench.flood', params: {}, id: 1 }));
  let worst = 0;
  for (let n = 0; n < 10; n++) {
    await pause(500);
    worst = Math.max(worst, (await server.memory()).rss - before.rss);
  }
  socket.terminate();
  return worst;
}

async function connect(url: string): Promise<WebSocket> {
  const socket = new WebSocket(url, { headers: HEADERS, perMessageDeflate: false });
  await once(socket, 'open');
  return socket;
}

async function withServer<T>(kind: 'bare' | 'gateway', measure: (server: BenchServer) => Promise<T>): Promise<T> {
  const pinned = CAN_PIN ? { execPath: 'taskset', execArgv: ['-c', '0', process.execPath, '--expose-gc'] } : {};
  const child: ChildProcess = fork(SERVER, [kind], {
    execArgv: ['--expose-gc'],
    ...pinned,
    env: { PATH: process.env.PATH },
  });
  const exited = once(child, 'exit');
  const receive = async (): Promise<Record<string, number>> => (await once(child, 'message'))[0];
  const { port } = await receive();
  try {
    return await measure({
      url: `ws://127.0.0.1:${port}/ws`,
      async memory() {
        child.send('memory');
        const { rss = 0, used = 0 } = await receive();
        return { rss, used };
      },
    });
  } finally {
    child.kill('SIGKILL');
    await exited;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

if (process.argv[1] === import.meta.filename) printLines(await run());
