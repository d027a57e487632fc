// Over one Firestore, a companion serves and ends what another one has started, and when a companion or a sandbox
// service is killed, only the calls that it was running fail. The deployed bundles run in processes of their own.
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { type ModelProvider, startModelProvider } from '../support/fakes/model-provider/model-provider.ts';
import { type ResponsesApi, startResponsesApi } from '../support/fakes/model-provider/responses-api.ts';
import { rpc } from '../support/fixtures/clients/turn-client.ts';
import { type Bundles, findBundles, startCompanion, startSandbox } from '../support/fixtures/gateway/bundles.ts';
import { type Client, connect, type Message } from '../support/fixtures/gateway/companion.ts';
import { type RunningFunction, startFunction } from '../support/fixtures/gateway/functions-cli.ts';
import type { Program } from '../support/fixtures/gateway/local-gateway.ts';
import { byPrompt, codexProgram, MODEL } from '../support/fixtures/sandbox/codex.ts';
import { GREETER } from '../support/fixtures/sandbox/mcp.ts';
import { processesWith } from '../support/fixtures/sandbox/sandbox.ts';
import { freshMark, TOKEN } from '../support/fixtures/sandbox/sandbox-ports.ts';
import { freePort } from '../support/fixtures/sandbox/sandbox-service.ts';
import { describeWith } from '../support/requirements.ts';

/** A gateway process that is lost for good is noticed after 35 s, and what it started is ended within 60 s. */
const ENDED = { timeout: 60_000, interval: 500 };
/** Codex starts in that time on a machine that does much else. */
const STARTED = { timeout: 90_000 };
const SLOW_MS = 240_000;
const CODEX = { model: MODEL };

const output = ({ received }: Client): string =>
  received.flatMap(({ method, params }) => (method === 'interactive.output' ? String(params?.data) : [])).join('');
const isRunning = async (mark: string): Promise<boolean> => (await processesWith(mark)).length > 0;
const sleep = (mark: string): object => ({ command: 'sleep', args: [mark] });

/** A command of a server's that is found by its mark as long as the server runs. */
const greeter = (mark: string): object => ({
  server_config: {
    ...{ name: 'own', command: '/bin/sh', args: ['-c', GREETER, mark] },
    env: { GREETING: 'hello' },
  },
});

/** The answer to a prompt that has the model call the tool of the session's server. */
async function greet(client: Client, session_id: string): Promise<string> {
  const prompt = '[[tool own__greet {}]] greet';
  return JSON.stringify(await client.call('conversation.prompt', { prompt, session_id }));
}

const RESTARTED = /"restarted_servers":\["own"\].*The tool said: hello/;

describeWith('emulators', 'bundles on one Firestore', () => {
  describeWith('codex', 'with a sandbox service', () => {
    let directory: string;
    let bundles: Bundles;
    let provider: ModelProvider;
    let responses: ResponsesApi;
    let env: Readonly<Record<string, string>>;
    const programs: Program[] = [];
    const clients: Client[] = [];
    let a: Program;
    let b: Program;
    let jsonrpc: RunningFunction;

    const startService = async (dataDir: string, port = 0): Promise<Program> => {
      const own = { GATEWAY_DATA_DIR: join(directory, dataDir), PORT: String(port), SANDBOX_TOKEN: TOKEN };
      const service = await startSandbox(bundles, { ...own, CODEX_BIN: codexProgram() });
      programs.push(service);
      return service;
    };
    const companionOf = async (service: Program): Promise<Program> => {
      const companion = await startCompanion(bundles, { ...env, SANDBOX_URL: service.url, SANDBOX_TOKEN: TOKEN });
      programs.push(companion);
      return companion;
    };
    const open = async ({ url }: Program): Promise<Client> => {
      const client = await connect(`${url.replace('http', 'ws')}/ws`);
      clients.push(client);
      return client;
    };
    beforeAll(async () => {
      directory = await mkdtemp(join(tmpdir(), 'bundles-'));
      [bundles, provider, responses] = await Promise.all([findBundles(), startModelProvider(), startResponsesApi()]);
      const { promise: gate } = Promise.withResolvers<void>();
      // The turn continues when its command runs longer than Codex waits for it.
      responses.behave((request) =>
        request.toolOutput !== undefined && request.prompt.startsWith('run sleep')
          ? { text: '', gate }
          : byPrompt(request),
      );
      env = {
        FIRESTORE_EMULATOR_HOST: inject('firestoreHost'),
        GOOGLE_CLOUD_PROJECT: `demo-bundles-${randomBytes(6).toString('hex')}`,
        METADATA_SERVER_DETECTION: 'none',
        GATEWAY_BUS: 'local',
        GATEWAY_API_KEY: 'dev-key',
        GATEWAY_LIMITS: '100000/minute',
        GATEWAY_DATA_DIR: join(directory, 'gateway'),
        ANTHROPIC_API_KEY: 'sk-test',
        ANTHROPIC_BASE_URL: provider.url,
        OPENAI_API_KEY: 'sk-test',
        OPENAI_BASE_URL: responses.url,
        MODEL: 'anthropic/claude-sonnet-4-5',
      };
      const service = await startService('sandbox');
      [a, b, jsonrpc] = await Promise.all([
        companionOf(service),
        companionOf(service),
        startFunction({ source: bundles.functions, target: 'jsonrpc', env }),
      ]);
    }, SLOW_MS);
    afterAll(async () => {
      for (const { socket } of clients) socket.terminate();
      for (const { child } of programs) child.kill('SIGKILL');
      await Promise.all([...programs.map(({ exited }) => exited), jsonrpc?.stop('SIGKILL')]);
      await Promise.all([provider.close(), responses.close()]);
      await rm(directory, { recursive: true, force: true });
    });

    it(
      'a Codex turn on one companion is cancelled from another and from the function, and continues elsewhere',
      async () => {
        const [first, second] = [await open(a), await open(b)];
        const session_id = 'codex';
        const cancel = { session_id };
        const begin = async (client: Client): Promise<{ mark: string; answer: Promise<Message> }> => {
          const mark = freshMark();
          const answer = client.call('conversation.prompt', { ...CODEX, session_id, prompt: `run sleep ${mark}` });
          await expect.poll(() => isRunning(mark), STARTED).toBe(true);
          return { mark, answer };
        };
        const one = await begin(first);
        expect((await second.call('conversation.cancel', cancel)).result).toMatchObject({ cancelled: true });
        expect((await one.answer).error).toMatchObject({ data: { reason: 'cancelled' } });
        const other = await begin(second);
        expect((await rpc(jsonrpc.url, 'conversation.cancel', cancel)).result).toMatchObject({ cancelled: true });
        expect((await other.answer).error).toMatchObject({ data: { reason: 'cancelled' } });
        await expect.poll(() => Promise.all([one.mark, other.mark].map(isRunning))).toEqual([false, false]);
        const again = await first.call('conversation.prompt', { ...CODEX, session_id, prompt: 'run echo $((6*7))' });
        expect(again.result?.content).toContain('42');
      },
      SLOW_MS,
    );

    it('an MCP server that was connected through one companion is used through the other', async () => {
      const [first, second] = [await open(a), await open(b)];
      const session_id = 'tools';
      const connected = await first.call('mcp.connect', { ...greeter(freshMark()), session_id });
      expect(connected.result).toMatchObject({ name: 'own', transport: 'stdio' });
      expect(await greet(second, session_id)).toMatch(RESTARTED);
      expect(await greet(second, session_id)).not.toContain('restarted_servers');
      const called = await second.call('mcp.call', { name: 'own', tool: 'greet', session_id });
      expect(called.result).toMatchObject({ content: [{ text: 'hello' }] });
      await second.call('mcp.disconnect', { name: 'own', session_id });
      expect((await first.call('mcp.list', { session_id })).result).toMatchObject({ servers: [] });
    });

    // Together: each waits for 35 s.
    it.concurrent(
      'a companion that is killed: its terminal and its MCP server are used through the other, and the rest is ended',
      async ({ expect }) => {
        const session_id = 'shared';
        const [command, server, model, terminal] = [freshMark(), freshMark(), freshMark(), freshMark()];
        const [first, second] = [await open(a), await open(b)];
        await first.call('interactive.start', { session_id });
        await second.call('interactive.input', { session_id, data: 'echo sec""ond\r' });
        await Promise.all([first, second].map((client) => client.until(() => output(client).includes('second'))));
        await first.call('interactive.input', { session_id, data: `sleep ${terminal} &\r` });
        await first.call('mcp.connect', { ...greeter(server), session_id });
        const codex = { ...CODEX, session_id: 'killed', prompt: `run sleep ${model}` };
        const calls = [first.call('exec', sleep(command)), first.call('conversation.prompt', codex)];
        const all = [command, server, model, terminal];
        await expect.poll(() => Promise.all(all.map(isRunning)), STARTED).toEqual([true, true, true, true]);
        a.child.kill('SIGKILL');
        await Promise.allSettled(calls);
        await second.call('interactive.input', { session_id, data: 'echo af""ter\r' });
        await second.until(() => output(second).includes('after'));
        expect(await greet(second, session_id)).toMatch(RESTARTED);
        await second.call('mcp.disconnect', { name: 'own', session_id });
        await expect.poll(() => Promise.all(all.map(isRunning)), ENDED).toEqual([false, false, false, true]);
        await second.call('interactive.close', { session_id });
        await expect.poll(() => isRunning(terminal)).toBe(false);
      },
      SLOW_MS,
    );

    it.concurrent(
      'a killed sandbox service: each call ends with an error, and the session continues after the restart',
      async ({ expect }) => {
        const port = await freePort();
        const service = await startService('lost', port);
        const client = await open(await companionOf(service));
        const session_id = 'lost';
        const [command, server, model] = [freshMark(), freshMark(), freshMark()];
        await client.call('mcp.connect', { ...greeter(server), session_id });
        const codex = { ...CODEX, session_id: 'codex-lost', prompt: `run sleep ${model}` };
        const calls = [client.call('exec', sleep(command)), client.call('conversation.prompt', codex)] as const;
        const all = [command, server, model];
        await expect.poll(() => Promise.all(all.map(isRunning)), STARTED).toEqual([true, true, true]);
        service.child.kill('SIGKILL');
        for (const { error } of await Promise.all(calls)) {
          expect(error).toMatchObject({
            message: expect.stringContaining('sandbox'),
            data: { reason: 'unavailable', retryable: false, may_have_effect: true },
          });
        }
        await expect.poll(() => Promise.all(all.map(isRunning))).toEqual([false, false, false]);
        await startService('lost', port);
        expect(await greet(client, session_id)).toMatch(RESTARTED);
        expect(await greet(client, session_id)).not.toContain('restarted_servers');
        const again = await client.call('conversation.prompt', { ...codex, prompt: 'run echo $((6*7))' });
        expect(again.result?.content).toContain('42');
      },
      SLOW_MS,
    );
  });
});
