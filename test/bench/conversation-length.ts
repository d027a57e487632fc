// What a prompt costs in a conversation of 2,000 messages against one of 20, in time, documents read and bytes written:
// alternating in one process, on a real store file, with an engine that responds at once. The messages are long enough
// that both conversations exceed the budget of the model, so that the model receives the same amount of each.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomIds, systemClock } from '../../shared/clock.ts';
import { loadConfig } from '../../shared/config/load-config.ts';
import { type Conversations, createConversations } from '../../shared/conversations/conversations.ts';
import type { Engines } from '../../shared/engines/engine.ts';
import { createLogger } from '../../shared/log.ts';
import { createEmbeddedStore } from '../../shared/store/embedded/embedded.ts';
import type { Store } from '../../shared/store/store.ts';
import { type BenchLine, median, printLines } from './bench.ts';

const LONG = 2_000;
const SHORT = 20;
const PROMPTS = 200;
/** A prompt and its answer; 20 messages of this size fill the smallest budget of a model. */
const TEXT = 'x'.repeat(16_000);

interface Cost {
  readonly ms: number;
  readonly reads: number;
  readonly bytes: number;
}

export async function run(): Promise<BenchLine[]> {
  const directory = mkdtempSync(join(tmpdir(), 'gateway-bench-'));
  const counters = { reads: 0, bytes: 0 };
  const store = count(createEmbeddedStore({ path: join(directory, 'store.sqlite'), clock: systemClock }), counters);
  const conversations = createConversations({
    config: loadConfig({ GATEWAY_STORE: 'memory' }),
    store,
    engines: instantEngines(),
    clock: systemClock,
    ids: randomIds,
    log: createLogger({ format: 'json', write: () => {} }),
  });
  try {
    for (let n = 0; n < LONG / 2; n++) await runTurn(conversations, 'long', TEXT);
    const costs: { long: Cost; short: Cost }[] = [];
    for (let n = 0; n < PROMPTS; n++) {
      // A new short session every 10 prompts; its first 10 are not measured.
      const short = `short-${Math.floor(n / 10)}`;
      if (n % 10 === 0) for (let filled = 0; filled < SHORT / 2; filled++) await runTurn(conversations, short, TEXT);
      costs.push({
        long: await measure(counters, () => runTurn(conversations, 'long', TEXT)),
        short: await measure(counters, () => runTurn(conversations, short, TEXT)),
      });
    }
    const mean = (pick: (cost: { long: Cost; short: Cost }) => number): number =>
      costs.reduce((sum, cost) => sum + pick(cost), 0) / costs.length;
    return [
      toLine('p50 time', 'ms', median(costs.map(({ long }) => long.ms)), median(costs.map(({ short }) => short.ms))),
      toLine(
        'documents read',
        'reads',
        mean(({ long }) => long.reads),
        mean(({ short }) => short.reads),
      ),
      toLine(
        'bytes written',
        'bytes',
        mean(({ long }) => long.bytes),
        mean(({ short }) => short.bytes),
      ),
    ];
  } finally {
    await conversations.drain(0);
    await store.close();
    rmSync(directory, { recursive: true });
  }
}

function toLine(name: string, unit: string, long: number, short: number): BenchLine {
  return {
    name: `prompt in a conversation of ${LONG} messages, ${name}`,
    value: long,
    unit,
    baseline: short,
    baselineName: `${SHORT} messages`,
    ratio: long === 0 ? 1 : short / long,
    target: '<= 1.2x',
    met: long <= short * 1.2,
  };
}

async function runTurn(conversations: Conversations, sessionId: string, prompt: string): Promise<void> {
  const turn = await conversations.prompt(
    {
      owner: 'bench',
      prompt,
      sessionId,
      model: undefined,
      instructions: undefined,
      onBusy: 'reject',
      idempotencyKey: undefined,
    },
    new AbortController().signal,
  );
  await turn.done;
}

async function measure(counters: { reads: number; bytes: number }, work: () => Promise<void>): Promise<Cost> {
  const before = { ...counters };
  const startMs = performance.now();
  await work();
  const ms = performance.now() - startMs;
  return { ms, reads: counters.reads - before.reads, bytes: counters.bytes - before.bytes };
}

function instantEngines(): Engines {
  const usage = { input_tokens: 1, output_tokens: 1, total_tokens: 2 };
  const model = 'bench/instant';
  return {
    defaultModel: model,
    usable: () => ({ models: [model], defaultModel: model }),
    resolve: () => ({
      model,
      engine: {
        async *run() {
          yield { AgentMessageDelta: { delta: TEXT } };
          return { content: TEXT, usage, model };
        },
      },
    }),
  };
}

function count(store: Store, counters: { reads: number; bytes: number }): Store {
  return {
    ...store,
    get(refs, options) {
      counters.reads += refs.length;
      return store.get(refs, options);
    },
    commit(writes, options) {
      for (const write of writes) if ('data' in write) counters.bytes += JSON.stringify(write.data).length;
      return store.commit(writes, options);
    },
  };
}

if (import.meta.main) printLines(await run());
