// Measures the latency of a keystroke: WebSocket -> gateway -> PTY in the sandbox -> echo -> WebSocket, one at a time,
// against a bare PTY in this process without socket, gateway and sandbox.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { type BenchLine, median, printLines } from '../support/bench.ts';
import { startServer } from '../support/processes.ts';
import { openTerminal, type Type, toEcho } from '../support/terminal-client.ts';

const KEYSTROKES = 1_000;
const WARM_UP = 100;
const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3);
const TARGET_MS = 10;
const KEY = 'bench-key';
const LETTERS = 'abcdefghijklmnopqrstuvwxyz';

export async function run(): Promise<BenchLine[]> {
  const main = join(import.meta.dirname, '../../../functions/local/main.ts');
  const gateway = await startServer([main], /gateway ready at (http:\S+)/, {
    PORT: '0',
    GATEWAY_STORE: 'memory',
    GATEWAY_API_KEY: KEY,
    GATEWAY_LIMITS: '1000000000/minute',
  });
  try {
    const ours: number[] = [];
    const bare: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      ours.push(await withTerminal(gateway.url, p99));
      bare.push(await withBarePty(p99));
    }
    const value = median(ours);
    return [
      {
        name: 'keystroke echo through a sandboxed terminal over WebSocket, p99',
        value,
        unit: 'ms',
        baseline: median(bare),
        baselineName: 'bare PTY in the same process',
        target: `<= ${TARGET_MS} ms`,
        met: value <= TARGET_MS,
        notes: `${KEYSTROKES} keystrokes, median of ${ROUNDS} rounds, each keystroke charged and logged`,
      },
    ];
  } finally {
    await gateway.stop();
  }
}

async function p99(type: Type): Promise<number> {
  const times: number[] = [];
  for (let n = 0; n < WARM_UP + KEYSTROKES; n++) {
    const letter = LETTERS[n % LETTERS.length] ?? 'a';
    const startedMs = performance.now();
    await type(letter);
    if (n >= WARM_UP) times.push(performance.now() - startedMs);
  }
  return times.sort((a, b) => a - b)[Math.floor(times.length * 0.99)] ?? Number.NaN;
}

async function withTerminal(url: string, measure: (type: Type) => Promise<number>): Promise<number> {
  const terminal = await openTerminal(url, KEY);
  const value = await measure(await toEcho(terminal));
  await terminal.close();
  return value;
}

async function withBarePty(measure: (type: Type) => Promise<number>): Promise<number> {
  const binding: typeof import('@lydell/node-pty') = createRequire(import.meta.url)('@lydell/node-pty');
  const pty = binding.spawn('/bin/sh', ['-c', 'exec cat >/dev/null'], { cols: 80, rows: 24 });
  let text = '';
  let onOutput = (): void => {};
  pty.onData((data) => {
    text += data;
    onOutput();
  });
  let typed = 0;
  const value = await measure((letter) => {
    text = '';
    pty.write(++typed % 1000 === 0 ? `\r${letter}` : letter);
    return new Promise((resolve) => {
      onOutput = () => text.includes(letter) && resolve();
      onOutput();
    });
  });
  const exited = new Promise<void>((resolve) => pty.onExit(() => resolve()));
  pty.kill('SIGKILL');
  await exited;
  return value;
}

if (process.argv[1] === import.meta.filename) printLines(await run());
