// Measures a prompt through the gateway with auth, limits, session and log, against a direct call to the same model,
// and against @portkey-ai/gateway, without any of these, in front of the same model, if it is installed.
import { existsSync } from 'node:fs';
import { type BenchLine, median, printLines } from '../support/bench.ts';
import { type Server, startServer } from '../support/processes.ts';
import {
  callProvider,
  load,
  messagesBody,
  post,
  prompt,
  type Setup,
  startPromptSetup,
} from '../support/prompt-client.ts';

const ROUNDS = 7;
const CALLS = 300;
const BURST = 600;
const CONCURRENCY = 20;
/** Turns per session: in a conversation that grows without end, the input of the model would dominate. */
const TURNS = 5;
const PORTKEY = 'test/node_modules/@portkey-ai/gateway/build/start-server.js';
const PORTKEY_PORT = 18_787;
/**
 * Version 1.15.2 returns 500 to a streamed call here, because it changes the headers of the response of `fetch`, which
 * are immutable. This line, run before it, makes it stream, as the gateway does.
 */
const REPAIR = `const { fetch } = globalThis;
  globalThis.fetch = async (...call) => { const response = await fetch(...call); return new Response(response.body, response); };`;

interface Round {
  readonly gatewayMs: number;
  readonly overheadMs: number;
  readonly directMs: number;
  readonly perSecond: number;
  readonly portkeyMs: number;
  readonly portkeyPerSecond: number;
  readonly streamedPerSecond: number;
}

export async function run(): Promise<BenchLine[]> {
  const setup = await startPromptSetup();
  const portkey = existsSync(PORTKEY) ? await startPortkey(PORTKEY_PORT) : undefined;
  const streaming = portkey && (await startPortkey(PORTKEY_PORT + 1, REPAIR));
  try {
    const rounds: Round[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      const measured = await measure(setup, { portkey, streaming }, round);
      // The first round warms everything up.
      if (round > 0) rounds.push(measured);
    }
    return toLines(rounds, portkey !== undefined);
  } finally {
    await portkey?.stop();
    await streaming?.stop();
    await setup.stop();
  }
}

interface Peers {
  readonly portkey: Server | undefined;
  readonly streaming: Server | undefined;
}

async function measure({ gateway, provider }: Setup, { portkey, streaming }: Peers, round: number): Promise<Round> {
  const overheads: number[] = [];
  const one = await load(CALLS, 1, async (index) => {
    const session_id = `r${round}-${Math.floor(index / TURNS)}`;
    const { ms, headers } = await prompt(gateway.url, { prompt: 'hello there', session_id });
    overheads.push(Number(headers['x-gateway-overhead-ms']));
    return ms;
  });
  const model = await load(CALLS, 1, async () => (await callProvider(provider.url, 'hello there')).ms);
  const many = await load(BURST, CONCURRENCY, async () => (await prompt(gateway.url, { prompt: 'hello there' })).ms);
  const through = async (): Promise<number> => (await callPortkey(PORTKEY_PORT, provider, false)).ms;
  const streamed = async (): Promise<number> => (await callPortkey(PORTKEY_PORT + 1, provider, true)).ms;
  const portkeyOne = portkey && (await load(CALLS, 1, through));
  const portkeyMany = portkey && (await load(BURST, CONCURRENCY, through));
  const streamedMany = streaming && (await load(BURST, CONCURRENCY, streamed));
  return {
    gatewayMs: median(one.ms),
    overheadMs: median(overheads),
    directMs: median(model.ms),
    perSecond: many.perSecond,
    portkeyMs: median(portkeyOne?.ms ?? []),
    portkeyPerSecond: portkeyMany?.perSecond ?? 0,
    streamedPerSecond: streamedMany?.perSecond ?? 0,
  };
}

function toLines(rounds: readonly Round[], withPortkey: boolean): BenchLine[] {
  const directMs = median(rounds.map((round) => round.directMs));
  const addedMs = median(rounds.map((round) => round.gatewayMs - round.directMs));
  const overheadMs = median(rounds.map((round) => round.overheadMs));
  const perSecond = median(rounds.map((round) => round.perSecond));
  const portkeyAddedMs = median(rounds.map((round) => round.portkeyMs - round.directMs));
  const portkeyPerSecond = median(rounds.map((round) => round.portkeyPerSecond));
  const streamedPerSecond = median(rounds.map((round) => round.streamedPerSecond));
  const against = (baseline: number, ratio: number): Partial<BenchLine> =>
    withPortkey
      ? { baseline, baselineName: '@portkey-ai/gateway, no auth, limits, session or stream', ratio }
      : { notes: '@portkey-ai/gateway is not installed: no baseline' };
  return [
    {
      name: 'prompt, embedded, p50 added to the model’s own',
      value: addedMs,
      unit: 'ms',
      target: withPortkey ? '<= 3 and within 2x of portkey' : '<= 3',
      met: addedMs <= 3 && (!withPortkey || addedMs <= 2 * portkeyAddedMs),
      ...against(portkeyAddedMs, portkeyAddedMs / addedMs),
    },
    {
      name: 'prompt, embedded, p50 of x-gateway-overhead-ms',
      value: overheadMs,
      unit: 'ms',
      target: '<= 3',
      met: overheadMs <= 3,
      notes: `the model alone ${directMs.toFixed(2)} ms`,
    },
    {
      name: `prompt, embedded, throughput at concurrency ${CONCURRENCY}`,
      value: perSecond,
      unit: 'prompts/s',
      target: withPortkey ? '>= portkey' : 'reported',
      met: perSecond >= portkeyPerSecond,
      ...against(portkeyPerSecond, perSecond / portkeyPerSecond),
    },
    {
      name: `prompt, embedded, throughput at concurrency ${CONCURRENCY}, both streamed by the model`,
      value: perSecond,
      unit: 'prompts/s',
      target: withPortkey ? '>= portkey' : 'reported',
      met: perSecond >= streamedPerSecond,
      ...(withPortkey && {
        baseline: streamedPerSecond,
        baselineName: '@portkey-ai/gateway, streaming (repaired), no auth, limits or session',
        ratio: perSecond / streamedPerSecond,
      }),
    },
  ];
}

function startPortkey(port: number, before = ''): Promise<Server> {
  const args = [
    '--import',
    `data:text/javascript,${encodeURIComponent(before)}`,
    PORTKEY,
    '--headless',
    `--port=${port}`,
  ];
  return startServer(args, /(http:\/\/localhost:\d+)/, { NODE_ENV: 'production' });
}

async function callPortkey(port: number, provider: Server, stream: boolean): Promise<{ readonly ms: number }> {
  const { status, body, ms } = await post(`http://127.0.0.1:${port}/v1/messages`, messagesBody('hello there', stream), {
    'x-api-key': 'sk-bench',
    'x-portkey-provider': 'anthropic',
    'x-portkey-custom-host': `${provider.url}/v1`,
  });
  if (status !== 200 || (stream && !body.includes('message_stop')))
    throw new Error(`portkey failed: ${status} ${body}`);
  return { ms };
}

if (process.argv[1] === import.meta.filename) printLines(await run());
