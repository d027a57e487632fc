// Measures the resident memory of a gateway under sustained prompts at concurrency 50: the last third of the run
// against the second; the first is the warm-up. BENCH_MINUTES (default 10) is the length.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type BenchLine, median, printLines } from '../support/bench.ts';
import { prompt, startPromptSetup } from '../support/prompt-client.ts';

const MINUTES = Number(process.env.BENCH_MINUTES ?? 10);
const CONCURRENCY = 50;
const SAMPLE_MS = 1_000;
/** Turns per session. */
const TURNS = 20;

export async function run(): Promise<BenchLine[]> {
  const setup = await startPromptSetup();
  const endMs = performance.now() + MINUTES * 60_000;
  const samples: number[] = [];
  let prompts = 0;
  try {
    const sampling = (async () => {
      while (performance.now() < endMs) {
        samples.push(rssMib(setup.gateway.process.pid ?? 0));
        await sleep(SAMPLE_MS);
      }
    })();
    await Promise.all(
      Array.from({ length: CONCURRENCY }, async (_, client) => {
        for (let n = 0; performance.now() < endMs; n++, prompts++) {
          const params = { prompt: 'hello there', session_id: `s${client}-${Math.floor(n / TURNS)}` };
          await prompt(setup.gateway.url, params);
        }
      }),
    );
    await sampling;
  } finally {
    await setup.stop();
  }
  const third = Math.floor(samples.length / 3);
  const middle = median(samples.slice(third, 2 * third));
  const last = median(samples.slice(2 * third));
  return [
    {
      name: `resident memory, ${MINUTES} min of prompts at concurrency ${CONCURRENCY}`,
      value: last,
      unit: 'MiB',
      baseline: middle,
      baselineName: 'the middle third of the run',
      ratio: middle / last,
      target: 'within 10 %',
      met: last <= middle * 1.1,
      notes: `${prompts} prompts; first sample ${samples[0]?.toFixed(0)}, highest ${Math.max(...samples).toFixed(0)} MiB`,
    },
  ];
}

function rssMib(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}

if (process.argv[1] === import.meta.filename) printLines(await run());
