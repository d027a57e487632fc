// Measures for how many round trips to the store a caller waits. Firestore's emulator is behind a proxy of 0, 10, 20
// and 40 ms a round trip; the slope of the median latency over the four is the number of round trips. For one process,
// and for the function and the companion from the built bundles.
import { randomBytes } from 'node:crypto';
import { Agent, request } from 'node:http';
import { startFirestoreEmulator } from '../../support/fixtures/database/emulators.ts';
import { createDeployed } from '../../support/fixtures/gateway/deployed.ts';
import { startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { type DelayProxy, startDelayProxy } from '../../support/fixtures/network/delay-proxy.ts';
import { type BenchLine, median, printLines } from '../support/bench.ts';

const DELAYS_MS = [0, 10, 20, 40];
const CALLS = Number(process.env.BENCH_CALLS ?? 15);
const KEY = 'bench-key';
/** Keys of the calls that the function counts itself, and of calls that function and companion count in turn. */
const READER = 'bench-reader';
const MIXED = 'bench-mixed';
/** Calls of each row before those that count. */
const WARM_UP = 3;
const ATTEMPTS_MAX = 30;

interface Row {
  readonly name: string;
  readonly max: number;
  /** Milliseconds of one call. */
  measure(): Promise<number>;
}

export async function run(): Promise<BenchLine[]> {
  const emulator = await startFirestoreEmulator();
  const proxy = await startDelayProxy(emulator.host, 0);
  const agent = new Agent({ keepAlive: true });
  try {
    return [...(await oneProcess(proxy, agent)), ...(await functionAndCompanion(proxy, agent))];
  } finally {
    agent.destroy();
    await proxy.stop();
    await emulator.stop();
  }
}

function environment(host: string): Record<string, string> {
  return {
    FIRESTORE_EMULATOR_HOST: host,
    GOOGLE_CLOUD_PROJECT: `bench-${randomBytes(4).toString('hex')}`,
    METADATA_SERVER_DETECTION: 'none',
    GATEWAY_KEYS: JSON.stringify({ keys: [KEY, READER, MIXED].map((key) => ({ id: key, key })) }),
    GATEWAY_BUS: 'local',
    // No blocks, which would save the round trip of the limiter.
    GATEWAY_LIMITS: '900/second',
  };
}

async function oneProcess(proxy: DelayProxy, agent: Agent): Promise<BenchLine[]> {
  const env = environment(proxy.host);
  const gateways = await Promise.all([startLocalGateway({ env }), startLocalGateway({ env })]);
  try {
    const [first, second] = gateways.map(({ url }) => createClient(agent, url));
    if (first === undefined || second === undefined) throw new Error('two gateways are needed');
    await Promise.all([first.untilReady(), second.untilReady()]);
    let turn = 0;
    const alternating: Row = {
      name: 'prompt, session alternating between two instances, first delta',
      max: 2.3,
      measure: async () => (await (turn++ % 2 === 0 ? first : second).prompt('alternating')).firstMs,
    };
    return await slopes('one process', proxy, [...rowsOf(first), alternating, webhookOf(first)]);
  } finally {
    await Promise.all(gateways.map((gateway) => gateway.stop()));
  }
}

async function functionAndCompanion(proxy: DelayProxy, agent: Agent): Promise<BenchLine[]> {
  const deployed = await createDeployed(environment(proxy.host));
  try {
    const { fn } = await deployed.start();
    const [client, reader, mixed] = [KEY, READER, MIXED].map((key) => createClient(agent, fn.url, key));
    if (client === undefined || reader === undefined || mixed === undefined) throw new Error('three keys are needed');
    for (const each of [client, reader, mixed]) await each.untilReady();
    // The function counts the reads and the companion the prompts: with one key they are two instances in turn.
    const alternating: Row = {
      name: 'prompt after a read with the same key, first delta',
      max: 2.3,
      measure: async () => {
        await mixed.call('conversation.status', { session_id: 'warm' });
        return (await mixed.prompt('warm')).firstMs;
      },
    };
    return await slopes('function and companion', proxy, [...rowsOf(client, reader), alternating]);
  } finally {
    await deployed.close();
  }
}

type Client = ReturnType<typeof createClient>;

function rowsOf(client: Client, reader = client): Row[] {
  const session_id = 'warm';
  const read = (name: string, params: object): Row => ({
    name,
    max: 1.15,
    measure: async () => (await reader.call(name, params)).totalMs,
  });
  return [
    {
      name: 'prompt, warm session, first delta',
      max: 1.15,
      measure: async () => (await client.prompt('warm')).firstMs,
    },
    { name: 'prompt, warm session, whole', max: 2.15, measure: async () => (await client.prompt('warm')).totalMs },
    { name: 'prompt, new session, first delta', max: 1.15, measure: async () => (await client.prompt()).firstMs },
    read('conversation.status', { session_id }),
    read('conversation.history', { session_id }),
    read('conversation.list', { limit: 5 }),
    read('events.list', { limit: 5 }),
  ];
}

function webhookOf(client: Client): Row {
  return { name: '/webhook until its 200', max: 2.15, measure: async () => (await client.deliver()).totalMs };
}

/**
 * The slope of each row's median over the delays. The delays change with every call, so that a machine that gets slower
 * or faster meanwhile has no influence on the slope.
 */
async function slopes(where: string, proxy: DelayProxy, rows: readonly Row[]): Promise<BenchLine[]> {
  const times = rows.map(() => DELAYS_MS.map((): number[] => []));
  for (let call = -WARM_UP; call < CALLS; call++) {
    for (const [row, { measure }] of rows.entries()) {
      for (const [delay, delayMs] of DELAYS_MS.entries()) {
        proxy.roundTripMs = delayMs;
        const ms = await measure();
        if (call >= 0) times[row]?.[delay]?.push(ms);
      }
    }
  }
  const medians = times.map((byDelay) => byDelay.map(median));
  proxy.roundTripMs = 0;
  return rows.map(({ name, max }, index) => {
    const value = slopeOf(medians[index] ?? []);
    const [atZero = Number.NaN] = medians[index] ?? [];
    const target = `<= ${max}`;
    return { name: `${where}: ${name}`, value, unit: 'trips', target, met: value <= max, notes: toNote(atZero) };
  });
}

function toNote(atZeroMs: number): string {
  return `${atZeroMs.toFixed(1)} ms without delay`;
}

/** Least squares. */
function slopeOf(times: readonly number[]): number {
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [meanDelay, meanTime] = [mean(DELAYS_MS), mean(times)];
  const covariance = mean(DELAYS_MS.map((delay, index) => (delay - meanDelay) * ((times[index] ?? 0) - meanTime)));
  return covariance / mean(DELAYS_MS.map((delay) => (delay - meanDelay) ** 2));
}

interface Timed {
  readonly firstMs: number;
  readonly totalMs: number;
}

function createClient(agent: Agent, url: string, key = KEY) {
  let delivered = 0;
  const call = (method: string, params: object, accept = 'application/json'): Promise<Timed> =>
    post(agent, `${url}/jsonrpc`, { accept, 'x-api-key': key }, { jsonrpc: '2.0', id: 1, method, params });
  return {
    call,
    /** Streamed; without a session, in a new one. */
    prompt: (session_id?: string) =>
      call('conversation.prompt', { prompt: 'hello', model: 'offline/echo', session_id }, 'text/event-stream'),
    deliver: () =>
      post(
        agent,
        `${url}/webhook`,
        { 'x-api-key': key },
        { event: 'bench.delivered', data: { n: `${url} ${delivered++}` } },
      ),
    /** The first connection to the store may take longer than a call may wait. */
    async untilReady(): Promise<void> {
      for (let attempt = 1; ; attempt++) {
        try {
          await call('conversation.prompt', { prompt: 'hello', model: 'offline/echo', session_id: 'warm' });
          return;
        } catch (error) {
          if (attempt === ATTEMPTS_MAX) throw error;
          await new Promise((resolve) => setTimeout(resolve, 500));
        }
      }
    },
  };
}

/** Rejects without a result. `firstMs`: until the first delta of a streamed answer. */
function post(agent: Agent, url: string, headers: Readonly<Record<string, string>>, body: object): Promise<Timed> {
  return new Promise((resolve, reject) => {
    const startMs = performance.now();
    let firstMs = Number.NaN;
    let text = '';
    const all = { 'content-type': 'application/json', ...headers };
    const sent = request(url, { agent, method: 'POST', headers: all }, (response) => {
      response.setEncoding('utf8');
      response.on('data', (piece: string) => {
        text += piece;
        if (Number.isNaN(firstMs) && text.includes('AgentMessageDelta')) firstMs = performance.now() - startMs;
      });
      response.on('error', reject);
      response.on('end', () => {
        const isAnswered = text.includes('"result"') || text.includes('"event_id"');
        if (isAnswered) resolve({ firstMs, totalMs: performance.now() - startMs });
        else reject(new Error(text.slice(0, 500)));
      });
    });
    sent.on('error', reject);
    sent.end(JSON.stringify(body));
  });
}

if (process.argv[1] === import.meta.filename) printLines(await run());
