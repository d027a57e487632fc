// A login in a real gateway process leaves its token in no response, no log line and no byte of the data directory,
// from its creation to its deletion, and is kept over a restart.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { type ModelProvider, startModelProvider } from '../support/fakes/model-provider/model-provider.ts';
import { type LocalGateway, startLocalGateway } from '../support/fixtures/gateway/local-gateway.ts';

const TOKEN = 'user-token/from+chatgpt=0123456789abcdef';
const PROVIDERS = ['chatgpt', 'openai', 'anthropic', 'google'];
const MARK = 'this sentence is stored in the clear';

const data = mkdtempSync(join(tmpdir(), 'gateway-login-'));
/** The text of all responses, headers included. */
let responsesText = '';
/** What the processes wrote. */
let logged = '';
let provider: ModelProvider;
let gateway: LocalGateway | undefined;

beforeAll(async () => {
  provider = await startModelProvider();
});
afterEach(stop);
afterAll(async () => {
  await provider.close();
  rmSync(data, { recursive: true, force: true });
});

async function stop(): Promise<void> {
  const ending = gateway;
  gateway = undefined;
  await ending?.stop();
  logged += ending?.output() ?? '';
}

async function start(): Promise<void> {
  gateway = await startLocalGateway({
    env: {
      GATEWAY_DATA_DIR: data,
      GATEWAY_LOG: 'json',
      GATEWAY_KEYS: JSON.stringify({ keys: ['a', 'b'].map((id) => ({ id, key: `key-${id}` })) }),
      ANTHROPIC_BASE_URL: provider.url,
      OPENAI_BASE_URL: provider.url,
      GOOGLE_BASE_URL: provider.url,
      CHATGPT_BASE_URL: provider.url,
    },
  });
}

async function post(body: string, headers: Readonly<Record<string, string>> = {}): Promise<string> {
  const response = await fetch(`${gateway?.url}/jsonrpc`, {
    method: 'POST',
    headers: { 'x-api-key': 'key-a', ...headers },
    body,
  });
  const text = await response.text();
  responsesText += `${response.status} ${JSON.stringify([...response.headers])} ${text}\n`;
  return text;
}

interface Answer {
  readonly result?: Readonly<Record<string, unknown>>;
  readonly error?: { readonly code: number; readonly data: Readonly<Record<string, unknown>> };
}

async function call(method: string, params: object, headers?: Readonly<Record<string, string>>): Promise<Answer> {
  return JSON.parse(await post(JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 }), headers)) as Answer;
}

async function logIn(name = 'anthropic'): Promise<string> {
  const { result } = await call('auth.login', { provider: name, credentials: { token: TOKEN } });
  expect(result).toEqual({
    session_id: expect.stringMatching(/^auth_\w{32}$/),
    provider: name,
    expires_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
  });
  return String(result?.session_id);
}

/** Every file of the data directory, the store's write-ahead log included, as it is at this moment. */
function bytesAtRest(): Buffer {
  const files = readdirSync(data, { recursive: true, encoding: 'utf8' }).map((name) => join(data, name));
  return Buffer.concat(files.filter((file) => statSync(file).isFile()).map((file) => readFileSync(file)));
}

/** The token as it is, and as the usual encodings would hide it from a search. */
const TRACES = [
  Buffer.from(TOKEN),
  Buffer.from(TOKEN, 'utf16le'),
  ...(['base64', 'base64url', 'hex'] as const).map((encoding) => Buffer.from(Buffer.from(TOKEN).toString(encoding))),
  Buffer.from(encodeURIComponent(TOKEN)),
];

function hits(bytes: Buffer | string): number {
  const searched = Buffer.from(bytes);
  return TRACES.filter((trace) => searched.includes(trace)).length;
}

it('a login leaves no trace of its token, and is kept over a restart', { timeout: 60_000 }, async () => {
  await start();
  for (const name of PROVIDERS) await logIn(name);
  expect(provider.checks.seen).toHaveLength(4);
  expect(provider.checks.seen.every(({ headers }) => hits(JSON.stringify(headers)) > 0)).toBe(true);

  // Refused, unreachable, malformed in every way that mentions it.
  const quoting = JSON.stringify({ error: { message: `bad key ${TOKEN}`, status: 'API_KEY_INVALID' } });
  for (const status of [400, 401, 403, 429, 500]) {
    provider.checks.answer({ status, headers: { 'x-quote': TOKEN }, body: quoting });
    for (const name of PROVIDERS) {
      const { error } = await call('auth.login', { provider: name, credentials: { token: TOKEN } });
      const isRefusal = status === 401 || status === 403 || (status === 400 && name === 'google');
      expect(error?.code).toBe(isRefusal ? -32602 : 503);
    }
  }
  provider.checks.answer('reset');
  expect(await call('auth.login', { provider: 'openai', credentials: { token: TOKEN } })).toMatchObject({
    error: { code: 503, data: { reason: 'unavailable', retryable: true } },
  });
  provider.checks.answer();
  for (const params of [
    { provider: 'openai', credentials: { token: `${TOKEN}\n` } },
    { provider: 'openai', credentials: { token: `${TOKEN} ${TOKEN}` } },
    { provider: 'openai', credentials: { token: TOKEN.repeat(1_000) } },
    { provider: 'openai', credentials: { token: [TOKEN] } },
    { provider: 'openai', credentials: { [TOKEN]: TOKEN } },
    { provider: 'openai', credentials: TOKEN },
    { provider: TOKEN, credentials: { token: TOKEN } },
    { credentials: { token: TOKEN } },
  ]) {
    expect(await call('auth.login', params)).toMatchObject({ error: { code: -32602 } });
  }
  await post(`{"jsonrpc":"2.0","method":"auth.login","params":{"credentials":{"token":"${TOKEN}`);
  await post(`[{"jsonrpc":"2.0","method":"auth.login","params":["openai","${TOKEN}"],"id":1}]`);
  expect(
    await call('auth.login', { provider: 'openai', credentials: { token: TOKEN } }, { 'x-api-key': 'no' }),
  ).toMatchObject({ error: { code: 401 } });

  // The login in use: a response, a stream, a failure with the provider's message, and a repeated call.
  const login = await logIn();
  const prompt = { prompt: MARK, session_id: 's', auth_session_id: login };
  expect(await call('conversation.prompt', prompt)).toMatchObject({ result: { content: `You said: ${MARK}` } });
  expect(
    await post(JSON.stringify({ jsonrpc: '2.0', method: 'conversation.prompt', params: prompt, id: 2 }), {
      accept: 'text/event-stream',
    }),
  ).toContain('TaskComplete');
  expect(provider.requests.every(({ headers }) => headers['x-api-key'] === TOKEN)).toBe(true);
  provider.behave(() => ({ status: 400, message: `no such key: ${TOKEN}` }));
  expect(await call('conversation.prompt', prompt)).toMatchObject({ error: { code: 502 } });
  provider.behave();
  for (const method of ['status', 'history', 'resume', 'list']) {
    expect(await call(`conversation.${method}`, method === 'list' ? {} : { session_id: 's' })).toHaveProperty('result');
  }
  await call('exec', { command: 'env' });
  await fetch(`${gateway?.url}/health?verbose=1`, { headers: { 'x-api-key': 'key-a' } }).then(async (r) => {
    responsesText += await r.text();
  });

  // Another key gets the same response as for an id that does not exist.
  const asB = { 'x-api-key': 'key-b' };
  for (const session_id of [login, 'session-xyz']) {
    expect(await call('auth.logout', { session_id }, asB)).toEqual({
      jsonrpc: '2.0',
      id: 1,
      result: { logged_out: false, status: 'not_found', session_id },
    });
    expect(await call('conversation.prompt', { prompt: 'x', auth_session_id: session_id }, asB)).toMatchObject({
      error: { code: 404, data: { reason: 'not_found' } },
    });
  }

  const whileRunning = bytesAtRest();
  await stop();
  await start();
  const again = { ...prompt, session_id: 'after-the-restart' };
  expect(await call('conversation.prompt', again)).toMatchObject({ result: { content: `You said: ${MARK}` } });
  expect(provider.requests.at(-1)?.headers['x-api-key']).toBe(TOKEN);
  expect(await call('auth.logout', { session_id: login })).toMatchObject({
    result: { logged_out: true, session_id: login },
  });
  expect(await call('conversation.prompt', prompt)).toMatchObject({ error: { code: 404 } });
  await stop();

  const atRest = bytesAtRest();
  // The search covers what is stored and what was returned.
  for (const bytes of [whileRunning, atRest]) expect(bytes.includes(MARK)).toBe(true);
  expect(logged).toContain('auth.login');
  expect(responsesText).toContain(MARK);
  expect({
    whileRunning: hits(whileRunning),
    atRest: hits(atRest),
    logged: hits(logged),
    returned: hits(responsesText),
  }).toEqual({ whileRunning: 0, atRest: 0, logged: 0, returned: 0 });
});
