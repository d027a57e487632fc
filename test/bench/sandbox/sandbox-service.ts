// Measures what it costs that commands and terminals run in the sandbox service, a process of its own, against the same
// gateway with its sandbox in process: a command, the echo of a key press, and a large output of a terminal.
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { Agent } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BenchLine, median, printLines } from '../support/bench.ts';
import { postCall } from '../support/post-call.ts';
import { type Server, startServer } from '../support/processes.ts';
import { openTerminal, type Type, toEcho } from '../support/terminal-client.ts';

const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3);
const SPAWNS = 40;
const KEYSTROKES = 300;
const WARM_UP = 20;
const PRINTED_BYTES = 100_000_000;
const EXEC_TARGET = 1.3;
const ECHO_TARGET_MS = 5;
const PRINT_TARGET = 0.5;
const KEY = 'bench-key';
const LETTERS = 'abcdefghijklmnopqrstuvwxyz';

interface Pair<T> {
  readonly service: T;
  readonly inProcess: T;
}

export async function run(): Promise<BenchLine[]> {
  const directory = await mkdtemp(join(tmpdir(), 'gateway-bench-'));
  const servers: Server[] = [];
  // Not pinned: how the processes share the cores is part of what is measured.
  const start = async (main: string, ready: RegExp, env: Record<string, string>): Promise<string> => {
    const data = { PORT: '0', GATEWAY_LOG: 'json', GATEWAY_DATA_DIR: join(directory, String(servers.length)) };
    const server = await startServer([join(import.meta.dirname, main)], ready, { ...data, ...env }, 'any');
    servers.unshift(server);
    return server.url;
  };
  const startGateway = (env: Record<string, string>): Promise<string> =>
    start('../../../functions/local/main.ts', /gateway ready at (http:\S+)/, {
      ...{ GATEWAY_STORE: 'memory', GATEWAY_API_KEY: KEY, GATEWAY_LIMITS: '1000000000/minute' },
      ...env,
    });
  const agent = new Agent({ keepAlive: true });
  try {
    const token = randomBytes(32).toString('hex');
    const sandbox = await start('../../../functions/sandbox/main.ts', /sandbox ready at (http:\S+)/, {
      SANDBOX_TOKEN: token,
    });
    const urls: Pair<string> = {
      service: await startGateway({ SANDBOX_URL: sandbox, SANDBOX_TOKEN: token }),
      inProcess: await startGateway({}),
    };
    const execs = await measure(urls, (url) => execP50(agent, url));
    const echoes = await measure(urls, echoP50);
    const prints = await measure(urls, printSpeed);
    return toLines(execs, echoes, prints);
  } finally {
    agent.destroy();
    // The gateways before the service.
    for (const server of servers) await server.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

function toLines(execs: Pair<number>, echoes: Pair<number>, prints: Pair<number>): BenchLine[] {
  const notes = `median of ${ROUNDS} rounds`;
  return [
    {
      name: 'exec true through the sandbox service, p50',
      ...{ value: execs.service, unit: 'ms', baseline: execs.inProcess, baselineName: 'in process' },
      ratio: execs.service / execs.inProcess,
      target: `<= ${EXEC_TARGET}x`,
      met: execs.service <= execs.inProcess * EXEC_TARGET,
      notes,
    },
    {
      name: 'keystroke echo through the sandbox service, p50',
      ...{ value: echoes.service, unit: 'ms', baseline: echoes.inProcess, baselineName: 'in process' },
      target: `<= ${ECHO_TARGET_MS} ms more`,
      met: echoes.service <= echoes.inProcess + ECHO_TARGET_MS,
      notes,
    },
    {
      name: `${PRINTED_BYTES / 1e6} MB printed by a terminal, as delivered to its WebSocket reader`,
      ...{ value: prints.service, unit: 'MB/s', baseline: prints.inProcess, baselineName: 'in process' },
      ratio: prints.service / prints.inProcess,
      target: `>= ${PRINT_TARGET}x`,
      met: prints.service >= prints.inProcess * PRINT_TARGET,
      notes,
    },
  ];
}

/** The median of each over interleaved rounds, of which each begins with the other one. */
async function measure(urls: Pair<string>, once: (url: string) => Promise<number>): Promise<Pair<number>> {
  const values: Record<keyof Pair<number>, number[]> = { service: [], inProcess: [] };
  for (let round = 0; round < ROUNDS; round++) {
    const order = ['service', 'inProcess'] as const;
    for (const which of round % 2 === 0 ? order : order.toReversed()) values[which].push(await once(urls[which]));
  }
  return { service: median(values.service), inProcess: median(values.inProcess) };
}

function execP50(agent: Agent, url: string): Promise<number> {
  return p50(SPAWNS, () => postCall(agent, url, KEY, 'exec', { command: 'true' }));
}

async function echoP50(url: string): Promise<number> {
  const terminal = await openTerminal(url, KEY);
  const type: Type = await toEcho(terminal);
  const value = await p50(KEYSTROKES, (index) => type(LETTERS[index % LETTERS.length] ?? 'a'));
  await terminal.close();
  return value;
}

/** MB a second. */
async function printSpeed(url: string): Promise<number> {
  const terminal = await openTerminal(url, KEY);
  terminal.send("stty -onlcr; echo rea''dy\r");
  await terminal.until('ready\n');
  const before = terminal.received;
  const startedMs = performance.now();
  terminal.send(`yes ${LETTERS}${LETTERS} | head -c ${PRINTED_BYTES}; echo prin''ted\r`);
  await terminal.until('printed\n');
  const value = (terminal.received - before) / 1e3 / (performance.now() - startedMs);
  await terminal.close();
  return value;
}

async function p50(count: number, work: (index: number) => Promise<void>): Promise<number> {
  const times: number[] = [];
  for (let index = 0; index < WARM_UP + count; index++) {
    const startedMs = performance.now();
    await work(index);
    if (index >= WARM_UP) times.push(performance.now() - startedMs);
  }
  return median(times);
}

if (process.argv[1] === import.meta.filename) printLines(await run());
