// Counts the connections to the provider that a prompt opens after silences, and measures the time until its first
// delta: over TLS, to a process of its own that is 50 ms of round trip away. BENCH_SILENCES: seconds, `5,30,300`
// includes five minutes.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeCertificate } from '../../support/fixtures/network/certificate.ts';
import { type BenchLine, median, printLines } from '../support/bench.ts';
import { type Server, startServer } from '../support/processes.ts';
import { prompt, startPromptSetup } from '../support/prompt-client.ts';

const SILENCES_S = (process.env.BENCH_SILENCES ?? '5,30').split(',').map(Number);
const WARM_CALLS = 15;
/** A new connection costs two further round trips of 50 ms. */
const FACTOR_MAX = 1.5;

interface Connections {
  readonly url: string;
  /** Since the start, with their TLS handshake. */
  readonly opened: number;
  /** How many of them resumed a TLS session. */
  readonly resumed: number;
}

interface Measured {
  readonly firstMs: number;
  readonly opened: number;
  readonly resumed: number;
}

export async function run(): Promise<BenchLine[]> {
  const directory = await mkdtemp(join(tmpdir(), 'gateway-bench-tls-'));
  const [CERT_FILE, KEY_FILE] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
  const { cert, key } = makeCertificate('localhost');
  await writeFile(CERT_FILE, cert);
  await writeFile(KEY_FILE, key);
  const provider = await startServer(
    ['test/bench/support/tls-provider.ts'],
    /ready at (\S+)/,
    { CERT_FILE, KEY_FILE },
    'any',
  );
  const { url } = await control(provider);
  const { gateway, stop } = await startPromptSetup({ ANTHROPIC_BASE_URL: url, NODE_EXTRA_CA_CERTS: CERT_FILE });
  const measure = async (): Promise<Measured> => {
    const before = await control(provider);
    const { firstMs } = await prompt(gateway.url, PARAMS, { accept: 'text/event-stream' }, isDelta);
    const { opened, resumed } = await control(provider);
    return { firstMs, opened: opened - before.opened, resumed: resumed - before.resumed };
  };
  try {
    const cold = await measure();
    const warm: number[] = [];
    for (let call = 0; call < WARM_CALLS; call++) warm.push((await measure()).firstMs);
    const warmMs = median(warm.slice(5));
    const lines: BenchLine[] = [];
    for (const seconds of SILENCES_S) {
      await sleep(seconds * 1_000);
      lines.push(...silenceLines(seconds, await measure(), warmMs));
    }
    await control(provider, '/close-idle');
    // The gateway gets the end of the connections.
    await sleep(1_000);
    const closed = await measure();
    await control(provider, '/stale');
    const stale = await measure();
    return [...lines, closedLine(closed, cold, warmMs), staleLine(stale, warmMs)];
  } finally {
    await stop();
    await provider.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

const PARAMS = { prompt: 'hello', session_id: 's' };

function isDelta(text: string): boolean {
  return text.includes('AgentMessageDelta');
}

function silenceLines(seconds: number, { opened, firstMs }: Measured, warmMs: number): BenchLine[] {
  return [
    {
      name: `prompt after ${seconds} s of silence: new connections to the provider`,
      value: opened,
      unit: 'connections',
      target: '<= 0',
      met: opened === 0,
    },
    {
      name: `prompt after ${seconds} s of silence: first delta`,
      value: firstMs,
      unit: 'ms',
      baseline: warmMs,
      baselineName: 'without silence',
      ratio: warmMs / firstMs,
      target: `<= ${FACTOR_MAX}x of the baseline`,
      met: firstMs <= warmMs * FACTOR_MAX,
    },
  ];
}

/** After the provider has closed its idle connections, and the gateway has received that. */
function closedLine({ opened, resumed, firstMs }: Measured, cold: Measured, warmMs: number): BenchLine {
  return {
    name: 'prompt after the provider closed its connections: new connections without TLS session resumption',
    value: opened - resumed,
    unit: 'connections',
    target: '<= 0, one resumed',
    met: opened === 1 && resumed === 1,
    notes: `first delta ${firstMs.toFixed(0)} ms, ${cold.firstMs.toFixed(0)} ms for the first prompt, warm ${warmMs.toFixed(0)} ms`,
  };
}

/** The provider closes the connection when the request arrives, before any byte of an answer. */
function staleLine({ opened, firstMs }: Measured, warmMs: number): BenchLine {
  return {
    name: 'prompt on a connection that turns out closed: it is replaced, and the prompt succeeds',
    value: opened,
    unit: 'connections',
    target: '<= 1',
    met: opened === 1,
    notes: `first delta ${firstMs.toFixed(0)} ms, warm ${warmMs.toFixed(0)} ms`,
  };
}

async function control(provider: Server, path = '/'): Promise<Connections> {
  const response = await fetch(new URL(path, provider.url));
  const body: unknown = await response.json();
  if (!isConnections(body)) throw new Error('the provider did not report its connections');
  return body;
}

function isConnections(body: unknown): body is Connections {
  return typeof body === 'object' && body !== null && 'url' in body && 'opened' in body && 'resumed' in body;
}

if (process.argv[1] === import.meta.filename) printLines(await run());
