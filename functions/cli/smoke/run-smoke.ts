// The checks of `npm run smoke`, which test a deployed gateway from outside. Each check has a deadline; after a failed
// one, the others still run.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { CodexGatewayClient } from '../../../shared/client/gateway-client.ts';
import { GatewayError } from '../../../shared/client/gateway-error.ts';
import { HEADERS, METHODS, PATHS } from '../../../shared/protocol.ts';

export interface SmokeOptions {
  /** Base URL of the gateway. */
  readonly url: string;
  readonly key: string;
  /** URL of the WebSocket. Default: `/ws` below `url`. */
  readonly socketUrl?: string | undefined;
  /** Model of the prompts. Default: that of the gateway. */
  readonly model?: string | undefined;
  readonly signal: AbortSignal;
  /** Receives one line for each check. */
  readonly out: (line: string) => void;
}

interface Target extends SmokeOptions {
  readonly client: CodexGatewayClient;
  /** Unique to this run. */
  readonly run: string;
}

const CHECK_TIMEOUT_MS = 60_000;
const POLL_MS = 500;
const PAGES_MAX = 20;
/** Streams slowly and is a part of every deployment, for models that answer before a cancel arrives. */
const SLOW_MODEL = 'offline/slow';
const LONG_PROMPT = 'Write a story of two thousand words about a lighthouse.';

const CHECKS: Readonly<Record<string, (target: Target, signal: AbortSignal) => Promise<string>>> = {
  health: checkHealth,
  'wrong key': checkWrongKey,
  'limits headers': checkHeaders,
  prompt: checkPrompt,
  cancel: checkCancel,
  webhook: checkWebhook,
  socket: checkSocket,
};

/** Runs every check and returns the names of those that failed. */
export async function runSmoke(options: SmokeOptions): Promise<string[]> {
  const client = new CodexGatewayClient(options.url, options.key);
  const target: Target = { ...options, url: options.url.replace(/\/+$/, ''), client, run: randomUUID().slice(0, 8) };
  const failed: string[] = [];
  for (const [name, check] of Object.entries(CHECKS)) {
    const signal = AbortSignal.any([options.signal, AbortSignal.timeout(CHECK_TIMEOUT_MS)]);
    const startedMs = performance.now();
    try {
      const found = await check(target, signal);
      options.out(`ok      ${name}: ${found} (${Math.round(performance.now() - startedMs)} ms)`);
    } catch (error) {
      if (options.signal.aborted) throw options.signal.reason;
      failed.push(name);
      options.out(`FAILED  ${name}: ${describe(error)}`);
    }
  }
  for (const session_id of [`smoke-${target.run}`, `smoke-cancel-${target.run}`]) {
    await client.call(METHODS.delete, { session_id }, { signal: options.signal }).catch(() => {});
  }
  return failed;
}

async function checkHealth({ client }: Target): Promise<string> {
  const { status } = await client.healthCheck();
  return expect(status === 'healthy', `the status is ${status}`, status);
}

async function checkWrongKey(target: Target, signal: AbortSignal): Promise<string> {
  const { status } = await post(target, PATHS.jsonrpc, statusOf('smoke'), signal, 'not-a-key-of-this-gateway');
  return expect(status === 401, `a wrong key was answered with HTTP ${status}`, 'refused with 401');
}

async function checkHeaders(target: Target, signal: AbortSignal): Promise<string> {
  const response = await post(target, PATHS.jsonrpc, statusOf('smoke'), signal);
  expect(response.status === 200, `HTTP ${response.status}: ${response.text}`, '');
  const [limit, remaining, reset] = ['Limit', 'Remaining', 'Reset'].map((name) =>
    Number(response.headers.get(`X-RateLimit-${name}`) ?? Number.NaN),
  );
  const isWhole = [limit, remaining, reset].every(Number.isInteger);
  return expect(isWhole, 'X-RateLimit-Limit, -Remaining or -Reset is missing', `${remaining} of ${limit} calls left`);
}

async function checkPrompt({ client, run, model }: Target, signal: AbortSignal): Promise<string> {
  const params = { prompt: 'Answer with one word: ready', session_id: `smoke-${run}`, ...(model && { model }) };
  const turn = client.stream(params, { signal });
  let lastEvent = '';
  for await (const { event } of turn) lastEvent = Object.keys(event)[0] ?? '';
  const answer = await turn.answer();
  expect(answer.content.trim() !== '', 'the answer is empty', '');
  return expect(lastEvent === 'TaskComplete', `the last event is ${lastEvent}`, `answered by ${answer.model}`);
}

/** A model may answer before the cancel arrives, so the slow model of every gateway follows. */
async function checkCancel(target: Target, signal: AbortSignal): Promise<string> {
  for (const model of [target.model, SLOW_MODEL]) {
    if (await cancelFirstTurn(target, model, signal)) return 'ended a running turn';
  }
  throw new Error('no turn was cancelled: each ended by itself');
}

/** Whether the turn was running when it was cancelled, and ended by that. */
async function cancelFirstTurn({ client, run }: Target, model: string | undefined, signal: AbortSignal) {
  const session_id = `smoke-cancel-${run}`;
  const events = new Set<string>();
  let wasRunning = false;
  try {
    for await (const { event } of client.stream(
      { prompt: LONG_PROMPT, session_id, ...(model && { model }) },
      { signal },
    )) {
      const isFirst = event.AgentMessageDelta !== undefined && !events.has('AgentMessageDelta');
      for (const name of Object.keys(event)) events.add(name);
      if (!isFirst) continue;
      const cancelled = await client.call(METHODS.cancel, { session_id }, { signal });
      wasRunning = cancelled.cancelled && cancelled.was_running;
    }
  } catch (error) {
    if (!(error instanceof GatewayError) || error.reason !== 'cancelled') throw error;
  }
  return wasRunning && events.has('TurnAborted');
}

async function checkWebhook(target: Target, signal: AbortSignal): Promise<string> {
  const data = { service: 'gateway-smoke-test', version: target.run, region: 'global', status: 'healthy' };
  const sent = { event: 'deployment.success', timestamp: new Date().toISOString(), data };
  const { status, text } = await post(target, PATHS.webhook, sent, signal);
  expect(status === 200 || status === 202, `HTTP ${status}: ${text}`, '');
  while (!(await isListed(target, data, signal))) await sleep(POLL_MS, undefined, { signal });
  return 'recorded, published and listed by deployment.list';
}

async function isListed(
  { client }: Target,
  { service, version }: { readonly service: string; readonly version: string },
  signal: AbortSignal,
): Promise<boolean> {
  let after: string | undefined;
  for (let page = 0; page < PAGES_MAX; page++) {
    const { deployments, next_cursor } = await client.call(METHODS.deployments, after ? { after } : {}, { signal });
    if (deployments.some((found) => found.service === service && found.version === version)) return true;
    if (next_cursor === undefined) return false;
    after = next_cursor;
  }
  return false;
}

async function checkSocket({ url, key, socketUrl }: Target, signal: AbortSignal): Promise<string> {
  const client = new CodexGatewayClient(url, key, { streaming: 'websocket', ...(socketUrl && { socketUrl }) });
  const answer = await client.notifications(METHODS.limits, {}, { signal }).next();
  return expect(answer.done === true, 'the socket sent a notification in place of an answer', 'opened with a ticket');
}

function statusOf(session_id: string): object {
  return { jsonrpc: '2.0', id: 1, method: METHODS.status, params: { session_id } };
}

async function post({ url, key }: Target, path: string, body: object, signal: AbortSignal, otherKey = key) {
  const response = await fetch(`${url}${path}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', [HEADERS.key]: otherKey },
    body: JSON.stringify(body),
    redirect: 'error',
    signal,
  });
  return { status: response.status, headers: response.headers, text: (await response.text()).slice(0, 500) };
}

function expect(isTrue: boolean, otherwise: string, found: string): string {
  if (!isTrue) throw new Error(otherwise);
  return found;
}

function describe(error: unknown): string {
  if (error instanceof GatewayError) return `${error.reason}: ${error.message}`;
  if (error instanceof TypeError && error.cause instanceof Error) return `network: ${error.cause.message}`;
  if (!(error instanceof Error)) return String(error);
  return error.name === 'TimeoutError' ? `no outcome within ${CHECK_TIMEOUT_MS / 1_000} s` : error.message;
}
