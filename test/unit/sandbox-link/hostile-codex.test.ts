// An app-server that an attacker controls, and that has the token of a running turn, can act within that turn only.
import { randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { CODEX_HOME } from '../../../shared/codex-host/codex-host.ts';
import { createCodexEngine } from '../../../shared/engines/codex/engine.ts';
import { createInbox } from '../../../shared/engines/codex/inbox.ts';
import { createRunningTurns } from '../../../shared/engines/codex/relay/running-turns.ts';
import type { Toolset, TurnInput } from '../../../shared/engines/engine.ts';
import { createLogger } from '../../../shared/log.ts';
import { createRemoteCodex } from '../../../shared/sandbox-link/client/codex.ts';
import { createLinkKeeper, type LinkKeeper } from '../../../shared/sandbox-link/link/connect/link-keeper.ts';
import type { Handlers, Link, LinkStream } from '../../../shared/sandbox-link/link/link.ts';
import { CodexOpenParams, CodexRolloutParams, ProviderHead } from '../../../shared/sandbox-link/messages.ts';
import { type ResponsesApi, startResponsesApi } from '../../support/fakes/model-provider/responses-api.ts';
import { startLinkServer, TOKEN } from '../../support/fixtures/sandbox/sandbox-link.ts';

const KEY = 'sk-of-the-deployment';
const MODEL = 'gpt-5';
const ROLLOUT = 'sessions/2026/01/01/rollout-a.jsonl';
const turn = { threadId: 'thread-1', turnId: 'turn-1' };
const log = createLogger({ format: 'json', write: () => {} });
const ends: (() => Promise<unknown>)[] = [];

interface AppServer {
  send(message: object): void;
  /** Resolves with the answer to a request of the app-server. */
  ask(method: string, params: object): Promise<unknown>;
  /** A request to the provider with the token of the turn, unless other headers are given. */
  provide(request: Provided): Promise<{ readonly status: number; readonly body: string }>;
  readonly token: string;
  readonly io: LinkStream;
}
interface Provided {
  readonly body: object | string;
  readonly path?: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string[]>>;
}

let api: ResponsesApi;
let onTurn: (appServer: AppServer) => Promise<void>;
let path: string | null;
let rollout: string | undefined;
let saved: Map<string, Uint8Array>;
let warnings: string[];
let onSave: () => Promise<void>;
beforeEach(async () => {
  api = await startResponsesApi();
  ends.push(api.close);
  onTurn = async () => {};
  path = `${CODEX_HOME}/${ROLLOUT}`;
  rollout = '{}\n';
  saved = new Map();
  warnings = [];
  onSave = async () => {};
});
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

/** An app-server that answers what is needed for a turn, and does `onTurn` in it. */
function play(link: Link, io: LinkStream, processId: string): void {
  let token = '';
  let lastId = 0;
  const answers = new Map<unknown, (result: unknown) => void>();
  const send = (message: object): void => void io.write(`${JSON.stringify(message)}\n`);
  const appServer: AppServer = {
    io,
    send,
    get token() {
      return token;
    },
    ask(method, params) {
      const id = `own-${++lastId}`;
      send({ id, method, params });
      return new Promise((resolve) => answers.set(id, resolve));
    },
    async provide({ body, ...more }) {
      const [sent, back] = [link.openStream(), link.openStream()];
      sent.end(typeof body === 'string' ? body : JSON.stringify(body)).resume();
      back.end();
      const head = { method: 'POST', path: '/responses', headers: { authorization: [`Bearer ${token}`] }, ...more };
      const streams = { body: sent.id, answer: back.id };
      const answer = await link.request('provider.request', { process_id: processId, ...head, ...streams });
      return { status: ProviderHead.parse(answer).status, body: await text(back) };
    },
  };
  const lines = createInterface({ input: io }).on('error', () => {});
  lines.on('line', (line) => {
    const { id, method, params, result } = JSON.parse(line);
    answers.get(id)?.(result);
    if (method === 'thread/start') {
      token = params.config['model_providers.gateway.experimental_bearer_token'];
      send({ id, result: { thread: { id: turn.threadId, path } } });
    } else if (method === 'turn/start') {
      send({ id, result: { turn: { id: turn.turnId } } });
      void onTurn(appServer).then(() => {
        send({ method: 'item/agentMessage/delta', params: { ...turn, itemId: 'm', delta: 'answer' } });
        const completed = { id: turn.turnId, status: 'completed', error: null };
        send({ method: 'turn/completed', params: { threadId: turn.threadId, turn: completed } });
      });
    } else if (method !== undefined) send({ id, result: {} });
  });
}

/** A gateway's engine whose sandbox is the attacker's. */
async function startEngine() {
  const handlers: Handlers = {
    async 'codex.open'(params, { link }) {
      const { io, errors } = CodexOpenParams.parse(params);
      link.takeStream(errors).end();
      const process_id = randomUUID();
      play(link, link.takeStream(io), process_id);
      return { session: randomUUID(), process_id, is_new: true };
    },
    'codex.wait': (_params, { signal }) =>
      new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    async 'codex.read_rollout'(params, { link }) {
      const stream = link.takeStream(CodexRolloutParams.parse(params).bytes);
      stream.end(rollout).resume();
      return { found: rollout !== undefined };
    },
    'codex.release': async () => null,
    'codex.end': async () => null,
  };
  const server = await startLinkServer({ handlers });
  let keeper: LinkKeeper | undefined;
  const codex = createRemoteCodex(() => keeper as LinkKeeper);
  const headers = async () => ({ Authorization: TOKEN });
  keeper = createLinkKeeper({ url: server.proxy.url, headers, handlers: codex.handlers, log });
  const opened = keeper;
  const engine = createCodexEngine({
    host: codex.host,
    baseUrls: { gateway: `${api.url}/v1`, chatgpt: `${api.url}/chatgpt/v1` },
    apiKey: KEY,
    state: {
      load: async (id) => saved.get(id),
      async save(id, bytes) {
        saved.set(id, bytes);
        await onSave();
        return true;
      },
    },
    warn: (message) => void warnings.push(message),
  });
  ends.push(server.stop, () => opened.close(), engine.close);
  return engine;
}

async function run(engine: Awaited<ReturnType<typeof startEngine>>, more: Partial<TurnInput> = {}) {
  const input = { turnId: 't', conversationId: 'conv_1', model: `codex/${MODEL}`, keyId: 'a' };
  const messages = [{ role: 'user', content: 'hello' }] as const;
  const events = engine.run({ ...input, messages, ...more }, { signal: new AbortController().signal });
  for (;;) {
    const step = await events.next();
    if (step.done) return step.value;
  }
}

it('tool calls of a hostile app-server count within its own running turn, and for the tools of that turn', async () => {
  const called: unknown[] = [];
  const tool = { name: 'tests__act', server: 'tests', tool: 'act', inputSchema: { type: 'object' } };
  const tools: Toolset = {
    tools: [tool],
    chars: 10,
    async call(_tool, args) {
      called.push(args.from);
      return { content: 'done', isError: false };
    },
  };
  const call = (from: string, more: object = {}) => ({
    ...{ ...turn, callId: from, tool: tool.name, arguments: { from } },
    ...more,
  });
  const failed = { contentItems: [], success: false };
  const answers: unknown[] = [];
  let late: Promise<unknown> | undefined;
  let server: AppServer | undefined;
  onTurn = async (appServer) => {
    server = appServer;
    for (const params of [
      call('another thread', { threadId: 'thread-2' }),
      call('another turn', { turnId: 'turn-0' }),
      call('no turn', { turnId: undefined }),
      call('this turn'),
    ])
      answers.push(await appServer.ask('item/tool/call', params));
    const other = await appServer.ask('item/tool/call', call('another tool', { tool: 'tests__other' }));
    expect(other).toMatchObject({ success: false });
  };
  onSave = async () => {
    late = server?.ask('item/tool/call', call('a turn that is over'));
    await late;
  };
  await run(await startEngine(), { tools });
  const done = { contentItems: [{ type: 'inputText', text: 'done' }], success: true };
  expect(answers).toEqual([failed, failed, failed, done]);
  expect(await late).toEqual(failed);
  expect(called).toEqual(['this turn']);
});

it('provider requests of a hostile app-server count for the turn: its path, model, account and counted usage', async () => {
  const seen: unknown[] = [];
  let server: AppServer | undefined;
  onTurn = async (appServer) => {
    server = appServer;
    const body = { model: MODEL, input: [] };
    const own = { authorization: [`Bearer ${appServer.token}`] };
    for (const request of [
      { body, path: '/models' },
      { body, path: '/responses?to=elsewhere' },
      { body, method: 'GET' },
      { body, headers: {} },
      { body, headers: { authorization: [`Bearer ${KEY}`] } },
      { body, headers: { authorization: [...own.authorization, ...own.authorization] } },
      { body: { model: 'gpt-5-pro', input: [] } },
      { body: `{"model":"${MODEL}","model":"gpt-5-pro","input":[]}` },
    ])
      seen.push((await appServer.provide(request)).status);
    const headers = { ...own, host: ['elsewhere'], 'openai-organization': ['other'], 'x-api-key': ['k'] };
    expect((await appServer.provide({ body, headers })).status).toBe(200);
    const tokens = { inputTokens: -500, outputTokens: -1, totalTokens: -501 };
    appServer.send({
      method: 'thread/tokenUsage/updated',
      params: { ...turn, tokenUsage: { last: tokens, total: tokens } },
    });
  };
  const outcome = await run(await startEngine());
  expect(seen).toEqual([404, 404, 404, 401, 401, 401, 403, 403]);
  expect(api.requests).toMatchObject([{ authorization: `Bearer ${KEY}`, model: MODEL, path: '/v1/responses' }]);
  expect(outcome.usage).toEqual({ input_tokens: 100, output_tokens: 10, total_tokens: 110 });
  expect((await server?.provide({ body: { model: MODEL } }))?.status).toBe(401);
  expect(api.requests).toHaveLength(1);
});

it('requests of one turn are bounded, concurrently and in total', () => {
  const turns = createRunningTurns();
  const account = { id: 'a', provider: 'gateway', headers: () => ({}) } as const;
  turns.begin('token', { account, modelIds: [MODEL] });
  const admit = () => turns.find('token')?.admit();
  const open = [admit(), admit(), admit(), admit()];
  expect(open.every((done) => done !== undefined)).toBe(true);
  expect(admit()).toBeUndefined();
  for (const done of open) done?.();
  let count = open.length;
  for (let done = admit(); done !== undefined; done = admit()) {
    done();
    count++;
  }
  expect(count).toBe(2_000);
});

it.each([
  ['a file of the machine', '/etc/passwd'],
  ['a file that is no thread', `${CODEX_HOME}/config.toml`],
  ['a file outside its home', `${CODEX_HOME}/sessions/2026/01/01/../../../../x.jsonl`],
  ['no file', null],
])('a thread in %s is not saved, and the turn is answered', async (_, file) => {
  path = file;
  expect((await run(await startEngine())).content).toBe('answer');
  expect(saved.size).toBe(0);
});

it('a rollout, whatever it holds, is saved for the conversation of the turn alone', async () => {
  rollout = '{"type":"session_meta","payload":{"id":"conv_of_another"}}\n';
  await run(await startEngine());
  expect([...saved.keys()]).toEqual(['conv_1']);
});

it('a line without an end ends the turn', async () => {
  onTurn = async ({ io }) => {
    for (let sent = 0; sent < 33 && !io.destroyed; sent++)
      await new Promise((resolve) => io.write(Buffer.alloc(1 << 20, 'x'), resolve));
    await new Promise(() => {});
  };
  await expect(run(await startEngine())).rejects.toMatchObject({ message: expect.stringContaining('Codex') });
});

it('notifications that wait for a reader are bounded in characters', async () => {
  const inbox = createInbox(() => new Error('too many'));
  const notification = { event: { AgentReasoning: { text: '' } } };
  for (let sent = 0; sent < 3; sent++) inbox.push(notification, 30 << 20);
  const { signal } = new AbortController();
  expect([await inbox.next(signal), await inbox.next(signal)]).toEqual([notification, notification]);
  await expect(inbox.next(signal)).rejects.toThrow('too many');
});
