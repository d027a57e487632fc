// Codex works through the whole gateway: a prompt over JSON-RPC has its events over SSE, and its rollout is in the
// store until the session is erased.
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createLocalCodex } from '../../../../shared/codex-host/local-codex.ts';
import { createEngines } from '../../../../shared/engines/engines.ts';
import { placeOfModel } from '../../../../shared/engines/place.ts';
import { type ResponsesApi, startResponsesApi } from '../../../support/fakes/model-provider/responses-api.ts';
import { type InProcessGateway, startInProcess } from '../../../support/fixtures/gateway/in-process.ts';
import { API_KEY, byPrompt, codexProgram, textsIn } from '../../../support/fixtures/sandbox/codex.ts';
import { describeWith } from '../../../support/requirements.ts';

const EVENTS = 'text/event-stream';

describeWith('codex', 'a gateway with ENGINE=codex', () => {
  let api: ResponsesApi;
  let gateway: InProcessGateway;
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'codex-gateway-'));
    api = await startResponsesApi();
    api.behave(byPrompt);
    gateway = await startInProcess({
      ENGINE: 'codex',
      CODEX_BIN: codexProgram(),
      GATEWAY_DATA_DIR: directory,
      OPENAI_API_KEY: API_KEY,
      OPENAI_BASE_URL: api.url,
      PATH: process.env.PATH,
    });
  });
  afterAll(async () => {
    await gateway.close();
    await api.close();
    await rm(directory, { recursive: true, force: true });
  });

  const post = (method: string, params: object, accept = 'application/json'): Promise<Response> =>
    fetch(`${gateway.url}/jsonrpc`, {
      method: 'POST',
      headers: { 'X-API-Key': 'dev-key', 'Content-Type': 'application/json', Accept: accept },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
    });
  const rollouts = async (): Promise<number> =>
    (await gateway.services.store.query({ collection: 'rollouts', orderBy: 'saved_at_ms', limit: 10 })).length;

  /** Directories of app-servers, which have the files of sessions. */
  const homes = async (): Promise<number> =>
    (await readdir(join(directory, 'codex'))).filter((name) => name.startsWith('home-')).length;

  it('a prompt without a model is answered by Codex, with its events as a stream', async () => {
    const prompt = { prompt: 'run echo $((40+2))', session_id: 's1' };
    const stream = await (await post('conversation.prompt', prompt, EVENTS)).text();
    const order = [
      'TaskStarted',
      'ExecCommandBegin',
      'ExecCommandEnd',
      'AgentMessageDelta',
      'AgentMessage',
      'TaskComplete',
    ];
    const places = order.map((name) => stream.indexOf(`{"${name}":`));
    expect(places).toEqual(places.toSorted((a, b) => a - b));
    expect(places[0]).toBeGreaterThan(-1);
    expect(stream).toContain('"model":"codex/gpt-6.1-sol"');
    expect(stream).toContain('"aggregated_output":"42\\n"');
  });

  it('a gateway with ENGINE=codex keeps the context when a session switches from Codex to the model itself and back', async () => {
    const direct = { prompt: 'directly', session_id: 's1', model: 'openai/gpt-6.1-sol' };
    expect(await (await post('conversation.prompt', direct)).json()).toMatchObject({
      result: { content: 'You said: directly', model: 'openai/gpt-6.1-sol' },
    });
    await post('conversation.prompt', { prompt: 'back', session_id: 's1' });
    const texts = textsIn(api.requests.at(-1)).filter((text) => !text.startsWith('Chunk ID'));
    expect(texts).toEqual(['run echo $((40+2))', 'directly', 'You said: directly', 'back']);
  });

  it('the rollout is erased with its session, in the store and where Codex ran', async () => {
    expect(await rollouts()).toBe(1);
    expect(await homes()).toBe(1);
    await post('conversation.delete', { session_id: 's1' });
    expect(await rollouts()).toBe(0);
    expect(await homes()).toBe(0);
  });

  it('a turn of Codex that does not complete costs what the provider has counted', async () => {
    const statusOf = async (session_id: string): Promise<unknown> =>
      (await post('conversation.status', { session_id })).json();
    const usage = { input_tokens: 100, output_tokens: 10, total_tokens: 110 };
    const counted = { result: { metadata: { usage } } };
    api.behave((request) => (request.prompt === 'nothing' ? { text: '' } : byPrompt(request)));
    await post('conversation.prompt', { prompt: 'nothing', session_id: 'empty' });
    expect(await statusOf('empty')).toMatchObject(counted);
    api.behave((request) => (request.toolOutput === undefined ? byPrompt(request) : { status: 400 }));
    await post('conversation.prompt', { prompt: 'run true', session_id: 'failed' });
    expect(await statusOf('failed')).toMatchObject(counted);
    api.behave(byPrompt);
    const called = api.next();
    const running = await post('conversation.prompt', { prompt: 'run sleep 77', session_id: 'stopped' }, EVENTS);
    let seen = '';
    for await (const bytes of running.body ?? []) {
      seen += Buffer.from(bytes).toString();
      if (seen.includes('ExecCommandBegin')) break;
    }
    expect(await (await called).ended).toBe('server');
    await post('conversation.cancel', { session_id: 'stopped' });
    // Codex itself reports the tokens of a call after its commands.
    expect(await statusOf('stopped')).toMatchObject(counted);
  });

  it('neither the log nor the store contains the provider’s key', async () => {
    await post('conversation.prompt', { prompt: 'status 401', session_id: 's2' });
    expect(gateway.logged()).not.toContain(API_KEY);
    expect(gateway.logged()).not.toContain('sk-leaked');
  });
});

describe('a gateway without Codex', () => {
  const config = { model: undefined, providers: { openai: { apiKey: API_KEY } } };

  it('a gateway without Codex refuses codex models, and the error names what is missing', () => {
    const partsWith = (program: string) => {
      const launcher = { spawn: () => Promise.reject(new Error('not used')) };
      const host = createLocalCodex({ launcher, program, directory: '', warn() {} }).hostFor('this process');
      return { host, state: { load: async () => undefined, save: async () => true }, warn() {} };
    };
    const refusal = (message: RegExp) =>
      expect.objectContaining({
        reason: 'invalid_params',
        data: { issues: [{ path: 'model', message: expect.stringMatching(message) }] },
      });
    const missing = createEngines(config, { codex: partsWith('/nowhere/codex') });
    expect(() => missing.resolve('codex/gpt-5.5')).toThrow(refusal(/npm install --no-save @openai\/codex/));
    const elsewhere = createEngines(config);
    expect(() => elsewhere.resolve('codex/gpt-5.5')).toThrow(refusal(/does not run in this process/));
    const poor = createEngines({ ...config, providers: {} }, { codex: partsWith(process.execPath) });
    expect(() => poor.resolve('codex/gpt-5.5')).toThrow(refusal(/OPENAI_API_KEY/));
  });

  it('only codex models need a process', () => {
    expect(['codex/gpt-5.5', 'openai/gpt-5.5', 'offline/echo'].map(placeOfModel)).toEqual([
      'companion',
      'local',
      'local',
    ]);
  });

  it.each([
    [{ engine: 'codex' as const, model: undefined }, 'codex/gpt-6.1-sol'],
    [{ engine: 'codex' as const, model: 'openai/gpt-5.5' }, 'codex/gpt-5.5'],
    [{ engine: 'direct' as const, model: 'codex/gpt-5.5' }, 'codex/gpt-5.5'],
    [{ engine: 'direct' as const, model: undefined }, 'openai/gpt-6.1-sol'],
  ])('a gateway without Codex takes its default model from ENGINE and MODEL: %o', (chosen, model) => {
    expect(createEngines({ ...config, ...chosen }).defaultModel).toBe(model);
  });
});
