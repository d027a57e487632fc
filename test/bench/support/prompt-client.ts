// Starts a gateway and the fake provider as processes for the prompt benches, with a client that keeps its connections
// and reads responses to the end.
import { mkdtemp, rm } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Server, startServer } from './processes.ts';

export const MODEL = 'anthropic/claude-sonnet-4-5';
const KEY = 'bench-key';

export interface Setup {
  readonly provider: Server;
  readonly gateway: Server;
  stop(): Promise<void>;
}

/**
 * The gateway with everything on (embedded store in a file, limits, log), the provider on another core if there is
 * one.
 */
export async function startPromptSetup(env: Readonly<Record<string, string>> = {}): Promise<Setup> {
  const dataDir = await mkdtemp(join(tmpdir(), 'gateway-bench-'));
  const provider = await startServer(
    ['test/support/fakes/model-provider/model-provider-main.ts'],
    /model provider ready at (\S+)/,
    {},
    availableParallelism() > 1 ? 1 : 0,
  );
  const gateway = await startServer(['functions/local/main.ts'], /gateway ready at (\S+)/, {
    PORT: '0',
    GATEWAY_DATA_DIR: dataDir,
    GATEWAY_API_KEY: KEY,
    GATEWAY_LIMITS: '1000000000/minute,1000000000/hour,1000000000/day',
    GATEWAY_LOG: 'json',
    ANTHROPIC_API_KEY: 'sk-bench',
    ANTHROPIC_BASE_URL: provider.url,
    MODEL,
    ...env,
  });
  return {
    provider,
    gateway,
    async stop() {
      await gateway.stop();
      await provider.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

export interface TimedResponse {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly body: string;
  readonly ms: number;
  /** Milliseconds until `isFirst` accepts the body so far. */
  readonly firstMs: number;
}

const agent = new Agent({ keepAlive: true, maxSockets: 64 });

/** One POST, read to its end. */
export function post(
  url: string,
  body: string,
  headers: Readonly<Record<string, string>>,
  isFirst: (text: string) => boolean = () => true,
): Promise<TimedResponse> {
  return new Promise((resolve, reject) => {
    const startMs = performance.now();
    let firstMs = Number.NaN;
    const outgoing = request(
      url,
      { agent, method: 'POST', headers: { 'content-type': 'application/json', ...headers } },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
          if (Number.isNaN(firstMs) && isFirst(text)) firstMs = performance.now() - startMs;
        });
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: text,
            ms: performance.now() - startMs,
            firstMs,
          }),
        );
        response.on('error', reject);
      },
    );
    outgoing.on('error', reject).end(body);
  });
}

/** `conversation.prompt` through the gateway; throws when it fails. */
export async function prompt(
  gateway: string,
  params: Readonly<Record<string, unknown>>,
  headers: Readonly<Record<string, string>> = {},
  isFirst?: (text: string) => boolean,
): Promise<TimedResponse> {
  const body = JSON.stringify({ jsonrpc: '2.0', method: 'conversation.prompt', params, id: 1 });
  const response = await post(`${gateway}/jsonrpc`, body, { 'x-api-key': KEY, ...headers }, isFirst);
  if (response.status !== 200 || !response.body.includes('ai_response')) {
    throw new Error(`prompt failed: ${response.status} ${response.body.slice(0, 500)}`);
  }
  return response;
}

/** The body of a Messages call, as the gateway sends it. */
export function messagesBody(text: string, stream = true): string {
  return JSON.stringify({
    model: 'claude-sonnet-4-5',
    max_tokens: 4096,
    messages: [{ role: 'user', content: [{ type: 'text', text }] }],
    stream,
  });
}

/** A call to the provider without a gateway. */
export function callProvider(
  provider: string,
  text: string,
  isFirst?: (text: string) => boolean,
): Promise<TimedResponse> {
  return post(`${provider}/v1/messages`, messagesBody(text), { 'x-api-key': 'sk-bench' }, isFirst);
}

/** Runs `work` `count` times, `concurrency` at once; returns the latencies and the rate per second. */
export async function load(
  count: number,
  concurrency: number,
  work: (index: number) => Promise<number>,
): Promise<{ readonly ms: readonly number[]; readonly perSecond: number }> {
  const ms: number[] = [];
  let next = 0;
  const startMs = performance.now();
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      for (let index = next++; index < count; index = next++) ms.push(await work(index));
    }),
  );
  return { ms, perSecond: (count / (performance.now() - startMs)) * 1_000 };
}
