// Measures what a prompt costs in a conversation of 2,000 messages against one of 20, in time, documents read and bytes
// written: alternating in one process, on a real store file, with an engine that responds at once. The messages are
// long enough that both conversations exceed the budget of the model, so that the model receives the same amount of
// each. Measured for answers of text, for answers with tool calls and results, and on an instance that has not read the
// conversation.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomIds, systemClock } from '../../../shared/clock.ts';
import { loadConfig } from '../../../shared/config/load-config.ts';
import { type Conversations, createConversations } from '../../../shared/conversations/conversations.ts';
import { CHUNKS_AT_ONCE as AT_ONCE } from '../../../shared/conversations/records/messages/context.ts';
import type { Engines } from '../../../shared/engines/engine.ts';
import { createLogger } from '../../../shared/log.ts';
import type { MessagePart } from '../../../shared/messages/message-parts.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded/embedded.ts';
import type { Store } from '../../../shared/store/store.ts';
import { type BenchLine, median, printLines } from '../support/bench.ts';

const LONG = 2_000;
const SHORT = 20;
const PROMPTS = 200;
const INSTANCES = 20;
/** A prompt and its answer; 20 messages of this size fill the smallest budget of a model. */
const TEXT = 'x'.repeat(16_000);
const call = { call_id: 'call_1', name: 'files__read' } as const;
const PARTS: readonly MessagePart[] = [
  { type: 'tool_call', ...call, arguments: JSON.stringify({ path: 'x'.repeat(1_000) }) },
  { type: 'tool_result', ...call, content: 'x'.repeat(11_000), is_error: false },
  { type: 'text', text: 'x'.repeat(4_000) },
];
const ANSWERS = {
  text: { content: TEXT, parts: [] },
  'tool calls': { content: 'x'.repeat(4_000), parts: PARTS },
} as const;

type Kind = keyof typeof ANSWERS;

interface Counters {
  reads: number;
  bytes: number;
}

interface Cost extends Counters {
  readonly ms: number;
}

interface Pair {
  readonly long: Cost;
  readonly short: Cost;
}

export async function run(): Promise<BenchLine[]> {
  const directory = mkdtempSync(join(tmpdir(), 'gateway-bench-'));
  const counters = { reads: 0, bytes: 0 };
  const store = count(createEmbeddedStore({ path: join(directory, 'store.sqlite'), clock: systemClock }), counters);
  try {
    const lines: BenchLine[] = [];
    for (const kind of ['text', 'tool calls'] as const) {
      const warm = await compareWarm(store, counters, kind);
      lines.push(toLine(`${kind}, p50 time`, 'ms', warm, middle));
      lines.push(toLine(`${kind}, documents read`, 'reads', warm, mean('reads')));
      lines.push(toLine(`${kind}, bytes written`, 'bytes', warm, mean('bytes')));
      const cold = await compareCold(store, counters, kind);
      const line = toLine(`${kind}, documents read on a new instance`, 'reads', cold, mean('reads'));
      // The first read is of as many documents as a large budget needs, in one round trip.
      const target = `<= ${AT_ONCE} more`;
      lines.push({ ...line, target, met: line.value <= (line.baseline ?? 0) + AT_ONCE });
    }
    return lines;
  } finally {
    await store.close();
    rmSync(directory, { recursive: true });
  }
}

/** On the instance whose turns have made both conversations. */
function compareWarm(store: Store, counters: Counters, kind: Kind): Promise<Pair[]> {
  return onInstance(store, kind, async (conversations) => {
    for (let n = 0; n < LONG / 2; n++) await runTurn(conversations, `long ${kind}`);
    const costs: Pair[] = [];
    for (let n = 0; n < PROMPTS; n++) {
      // A new short session every 10 prompts; its first 10 are not measured.
      const short = `short ${kind} ${Math.floor(n / 10)}`;
      if (n % 10 === 0) for (let filled = 0; filled < SHORT / 2; filled++) await runTurn(conversations, short);
      costs.push(await measurePair(counters, conversations, kind, short));
    }
    return costs;
  });
}

/** Each pair of prompts on an instance of its own. */
async function compareCold(store: Store, counters: Counters, kind: Kind): Promise<Pair[]> {
  const costs: Pair[] = [];
  for (let n = 0; n < INSTANCES; n++) {
    const prompt = (conversations: Conversations) => measurePair(counters, conversations, kind, `short ${kind} ${n}`);
    costs.push(await onInstance(store, kind, prompt));
  }
  return costs;
}

async function onInstance<T>(store: Store, kind: Kind, work: (conversations: Conversations) => Promise<T>): Promise<T> {
  const conversations = createConversations({
    config: loadConfig({ GATEWAY_STORE: 'memory' }),
    store,
    engines: instantEngines(ANSWERS[kind]),
    clock: systemClock,
    ids: randomIds,
    log: createLogger({ format: 'json', write: () => {} }),
  });
  try {
    return await work(conversations);
  } finally {
    await conversations.drain(0);
  }
}

async function measurePair(counters: Counters, conversations: Conversations, kind: Kind, short: string): Promise<Pair> {
  return {
    long: await measure(counters, () => runTurn(conversations, `long ${kind}`)),
    short: await measure(counters, () => runTurn(conversations, short)),
  };
}

const middle = (costs: readonly Cost[]): number => median(costs.map(({ ms }) => ms));

const mean = (name: keyof Counters) => (costs: readonly Cost[]) =>
  costs.reduce((sum, cost) => sum + cost[name], 0) / costs.length;

function toLine(name: string, unit: string, pairs: readonly Pair[], of: (costs: readonly Cost[]) => number): BenchLine {
  const long = of(pairs.map((pair) => pair.long));
  const short = of(pairs.map((pair) => pair.short));
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

async function runTurn(conversations: Conversations, sessionId: string): Promise<void> {
  const turn = await conversations.prompt(
    {
      owner: 'bench',
      prompt: TEXT,
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

async function measure(counters: Counters, work: () => Promise<void>): Promise<Cost> {
  const before = { ...counters };
  const startMs = performance.now();
  await work();
  const ms = performance.now() - startMs;
  return { ms, reads: counters.reads - before.reads, bytes: counters.bytes - before.bytes };
}

function instantEngines({ content, parts }: (typeof ANSWERS)[Kind]): Engines {
  const usage = { input_tokens: 1, output_tokens: 1, total_tokens: 2 };
  const model = 'bench/instant';
  return {
    defaultModel: model,
    usable: () => ({ models: [model], defaultModel: model }),
    resolve: () => ({
      model,
      engine: {
        async *run(_turn, { record }) {
          yield { AgentMessageDelta: { delta: content } };
          for (const part of parts) record?.(part);
          return { content, usage, model };
        },
      },
    }),
  };
}

function count(store: Store, counters: Counters): Store {
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

if (process.argv[1] === import.meta.filename) printLines(await run());
