// models.list returns what can be called and what is known of it, never guessed, without a call to a provider.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { loadConfig } from '../../../shared/config/load-config.ts';
import { createEngines } from '../../../shared/engines/engines.ts';
import { modelFacts } from '../../../shared/engines/models/model-facts.ts';
import { PROVIDERS } from '../../../shared/engines/provider-names.ts';
import { type ModelProvider, startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import { type InProcessGateway, startInProcess } from '../../support/fixtures/gateway/in-process.ts';

let provider: ModelProvider;
let gateway: InProcessGateway | undefined;
beforeAll(async () => {
  provider = await startModelProvider();
});
afterEach(async () => {
  await gateway?.close();
  gateway = undefined;
});
afterAll(() => provider.close());

const Model = z.looseObject({ id: z.string() });
const Answer = z.object({
  result: z
    .looseObject({ models: z.array(Model).default([]), session_id: z.string().optional() })
    .default({ models: [] }),
  error: z.object({ data: z.object({ reason: z.string() }) }).optional(),
});

async function call(method: string, params: object = {}, key = 'dev-key') {
  const response = await fetch(`${gateway?.url}/jsonrpc`, {
    method: 'POST',
    headers: { 'x-api-key': key, 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
  });
  return Answer.parse(await response.json());
}

const names = (result: { models: readonly { id: string }[] }) => result.models.map(({ id }) => id);

describe('models.list', () => {
  it('models.list returns the offline models where nothing is configured', async () => {
    gateway = await startInProcess();
    const { result } = await call('models.list');
    const facts = { provider: 'offline', input: ['text'], reasoning: false, output_schema: false };
    expect(result).toEqual({
      models: [
        { id: 'offline/echo', default: true, ...facts },
        { id: 'offline/slow', default: false, ...facts },
      ],
    });
  });

  it('models.list returns the default models of providers with credentials, and those of MODELS that can be called', async () => {
    gateway = await startInProcess({
      ANTHROPIC_API_KEY: 'k',
      ANTHROPIC_BASE_URL: provider.url,
      MODEL_PROVIDERS: JSON.stringify({ own: { base_url: provider.url, wire: 'chat' } }),
      MODEL: 'own/qwen3:8b',
      MODELS: JSON.stringify({
        'own/qwen3:8b': {
          ...{ context_tokens: 40_960, max_output_tokens: 4_096, input: ['text', 'image'], reasoning: true },
          ...{ output_schema: true, price: { input: 0.5, output: 2, cached_input: 0.05, cache_write: 0.6 } },
        },
        'own/other': {},
        'openai/gpt-5': { context_tokens: 400_000 },
      }),
    });
    const before = provider.calls;
    const { result } = await call('models.list');
    expect(names(result)).toEqual([
      'own/qwen3:8b',
      PROVIDERS.anthropic.defaultModel,
      'own/other',
      'offline/echo',
      'offline/slow',
    ]);
    expect(result.models[0]).toEqual({
      id: 'own/qwen3:8b',
      provider: 'own',
      default: true,
      context_tokens: 40_960,
      max_output_tokens: 4_096,
      input: ['text', 'image'],
      reasoning: true,
      output_schema: true,
      price: { input: 0.5, output: 2, cached_input: 0.05, cache_write: 0.6 },
    });
    // No property of this model is known, so none is returned.
    expect(result.models[2]).toEqual({ id: 'own/other', provider: 'own', default: false });
    expect(provider.calls).toBe(before);
    expect(provider.checks.seen).toEqual([]);
    // What is listed can be called.
    for (const model of names(result))
      expect((await call('conversation.prompt', { prompt: 'hi', model })).error).toBeUndefined();
  });

  it('models.list needs no scope, and returns the models of the caller’s own login only', async () => {
    gateway = await startInProcess({
      GATEWAY_KEYS: JSON.stringify({
        keys: [
          { id: 'a', key: 'key-a', scopes: ['auth'] },
          { id: 'b', key: 'key-b', scopes: [] },
        ],
      }),
      ANTHROPIC_BASE_URL: provider.url,
      MODELS: '{"anthropic/claude-sonnet-5": {}, "openai/gpt-5": {}}',
    });
    expect(names((await call('models.list', {}, 'key-b')).result)).toEqual(['offline/echo', 'offline/slow']);
    const login = await call('auth.login', { provider: 'anthropic', credentials: { token: 'sk-own' } }, 'key-a');
    const params = { auth_session_id: login.result.session_id };
    const { result } = await call('models.list', params, 'key-a');
    expect(names(result)).toEqual([PROVIDERS.anthropic.defaultModel, 'anthropic/claude-sonnet-5']);
    expect(result.models[0]).toMatchObject({ default: true });
    expect((await call('models.list', params, 'key-b')).error?.data.reason).toBe('not_found');
  });
});

it('a function names the models of Codex that its companion runs', () => {
  const config = loadConfig({ OPENAI_API_KEY: 'k', COMPANION_URL: 'https://c.example' });
  expect(createEngines(config).usable().models).toContain(PROVIDERS.openai.defaultModel.replace('openai/', 'codex/'));
  const alone = loadConfig({ OPENAI_API_KEY: 'k' });
  expect(createEngines(alone).usable().models.join()).not.toContain('codex/');
});

describe('the facts of a model', () => {
  const NOW = Date.parse('2026-11-27T00:00:00Z');
  const server = { wire: 'chat', headers: {} } as const;
  const config = {
    models: new Map([['openai/gpt-5', { context_tokens: 1_000 }]]),
    providers: {},
    modelProviders: new Map([
      ['cloud', { ...server, baseUrl: 'https://api.groq.com/openai/v1' }],
      ['own', { ...server, baseUrl: 'http://127.0.0.1:8000/v1' }],
    ]),
  };
  const factsOf = (model: string, nowMs = NOW) => modelFacts(model, config, nowMs);

  it('the facts of a model are those of shipped data for an exact id, and the operator’s before them', async () => {
    expect(await factsOf('anthropic/claude-sonnet-5')).toEqual({
      contextTokens: 1_000_000,
      price: { input: 2, output: 10, cachedInput: 0.2, cacheWrite: 2.5 },
    });
    expect(await factsOf('openai/gpt-5')).toEqual({
      contextTokens: 1_000,
      price: { input: 1.25, output: 10, cachedInput: 0.125 },
    });
    // A name of the model that the data lists.
    expect((await factsOf('openai/gpt-4o-2024-08-06')).contextTokens).toBe(128_000);
    // A server is found by its address, whatever the operator calls it.
    expect(await factsOf('cloud/llama-3.3-70b-versatile')).toEqual({ price: { input: 0.59, output: 0.79 } });
  });

  it.each([
    'anthropic/claude-sonnet-5-5',
    'anthropic/claude-sonnet-5-20270101',
    'openai/gpt-5-future',
    'own/gpt-5',
    'nobody/x',
  ])('the facts of a model are absent where the data does not have the exact id: %s', async (model) =>
    expect(await factsOf(model)).toEqual({}),
  );

  it('the facts of a model are absent behind another address than the provider’s own', async () => {
    const providers = { openai: { apiKey: 'k', baseUrl: 'https://proxy.example' } };
    expect(await modelFacts('openai/gpt-4o', { ...config, providers }, NOW)).toEqual({});
  });

  it('the facts of a model have the prices of long inputs, and those in force', async () => {
    expect((await factsOf('openai/gpt-6-sol')).price).toEqual({
      ...{ input: 2, output: 10, cachedInput: 0.2, cacheWrite: 2.5 },
      long: { aboveTokens: 272_000, input: 4, output: 15, cachedInput: 0.4, cacheWrite: 5 },
    });
    expect((await factsOf('google/gemini-3.7-flash')).price?.input).toBe(0.75);
    expect((await factsOf('google/gemini-3.7-flash', Date.parse('2027-01-02'))).price?.input).toBe(1.5);
  });
});
