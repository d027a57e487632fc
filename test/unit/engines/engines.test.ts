// The engine of a prompt is chosen by its model or by the default, a model that cannot run is refused with the reason,
// and a provider that is not used is not loaded.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { OAuth2Client } from 'google-auth-library';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../../shared/config/load-config.ts';
import { createEngines } from '../../../shared/engines/engines.ts';
import { contextTokens } from '../../../shared/engines/models/context-tokens.ts';
import { PROVIDER_NAMES, PROVIDERS } from '../../../shared/engines/provider-names.ts';
import { RpcError } from '../../../shared/errors.ts';
import { joinUrl, toBaseUrl } from '../../../shared/net/base-url.ts';
import { type ModelProvider, startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import { CASES, runTurn } from '../../support/fixtures/turns/engines.ts';

const anthropic = { apiKey: 'k' };
const openai = { apiKey: 'k' };
const google = { project: 'p', location: 'us-central1' };

function issuesOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof RpcError && error.reason === 'invalid_params') return JSON.stringify(error.data.issues);
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('default model', () => {
  it.each([
    [{ model: undefined, providers: {} }, 'offline/echo'],
    [{ model: undefined, providers: { google, openai, anthropic } }, PROVIDERS.anthropic.defaultModel],
    [{ model: undefined, providers: { google, openai } }, PROVIDERS.openai.defaultModel],
    [{ model: undefined, providers: { google } }, PROVIDERS.google.defaultModel],
    [{ model: 'openai/gpt-5-mini', providers: { anthropic, openai } }, 'openai/gpt-5-mini'],
  ])('the default model of %j is %s', (config, expected) => {
    const engines = createEngines(config);
    expect(engines.defaultModel).toBe(expected);
    expect(engines.resolve(undefined).model).toBe(expected);
  });

  it('the default model is refused when used, not at start, when its credentials are missing', () => {
    const engines = createEngines({ model: 'openai/gpt-5', providers: {} });
    expect(issuesOf(() => engines.resolve(undefined))).toContain('OPENAI_API_KEY');
  });
});

describe('resolve', () => {
  const engines = createEngines({ model: undefined, providers: { openai } });

  it.each([
    ['gpt-5', 'provider/model'],
    ['', 'provider/model'],
    ['openai/', 'provider/model'],
    ['/gpt-5', 'provider/model'],
    ['openai/../../admin', 'provider/model'],
    ['openai/gpt-5?x=1', 'provider/model'],
    ['openai/gpt 5\r\nx: y', 'provider/model'],
    ['openai/a/../b', 'provider/model'],
    ['openai/a//b', 'provider/model'],
    [`openai/${'x'.repeat(122)}`, 'at most 128'],
    ['mistral/large', 'unknown model mistral/large'],
    ['constructor/x', 'unknown model'],
    ['offline/other', 'unknown model offline/other; known: anthropic'],
    ['anthropic/claude-sonnet-4-5', 'ANTHROPIC_API_KEY'],
    ['google/gemini-2.5-flash', 'GOOGLE_CLOUD_PROJECT'],
  ])('the model %j is refused with the reason, at start where it is no model at all', (model, hint) => {
    if (!/_API_KEY|_PROJECT/.test(hint) && model !== '') expect(() => loadConfig({ MODEL: model })).toThrow(/MODEL: /);
    const issues = issuesOf(() => engines.resolve(model));
    expect(issues).toContain(hint);
    expect(issues).toContain('"path":"model"');
  });

  it.each(['openai/gpt-5', 'openai/ft:gpt-4o:org::id', 'openai/@cf/some/model', 'offline/echo', 'offline/slow'])(
    'the model %s is accepted, also as MODEL',
    (model) => {
      expect(engines.resolve(model).model).toBe(model);
      expect(loadConfig({ MODEL: model }).model).toBe(model);
    },
  );
});

describe('loading', () => {
  it('no provider is imported until one is used', async () => {
    const hooks = `import { registerHooks } from 'node:module';
      registerHooks({ resolve(name, context, next) {
        if (name.startsWith('@ai-sdk/') || name === 'google-auth-library') console.log(name);
        return next(name, context);
      } });`;
    const code = `const { createEngines } = await import(${JSON.stringify(new URL('../../../shared/engines/engines.ts', import.meta.url).href)});
      const engines = createEngines({ model: undefined, providers: { openai: { apiKey: 'k' } } });
      engines.resolve('openai/gpt-5');
      console.log('resolved');
      engines.warm();`;
    const flag = `data:text/javascript,${encodeURIComponent(hooks)}`;
    const { stdout } = await promisify(execFile)(process.execPath, [
      '--import',
      flag,
      '--input-type=module',
      '-e',
      code,
    ]);
    const lines = stdout.trim().split('\n');
    expect(lines.slice(0, 2)).toEqual(['resolved', '@ai-sdk/openai']);
    expect(lines.filter((line) => /anthropic|google/.test(line))).toEqual([]);
  });
});

describe('base URLs', () => {
  let provider: ModelProvider;
  beforeAll(async () => {
    provider = await startModelProvider();
  });
  afterAll(() => provider.close());

  it.each(['', '/', '/v1', '/v1/', '/proxy/v1//'])(
    'a provider is called at a base URL that ends in %j',
    async (suffix) => {
      const access = { apiKey: 'k', baseUrl: provider.url + suffix };
      const engines = createEngines({ model: undefined, providers: { anthropic: access, openai: access } });
      for (const model of ['anthropic/claude-sonnet-4-5', 'openai/gpt-5']) {
        expect((await runTurn(engines.resolve(model).engine, { model, prompt: 'hi' })).outcome.content).toBe(
          'You said: hi',
        );
      }
    },
  );

  it('the query of a base URL is part of every call', async () => {
    const access = { apiKey: 'k', baseUrl: `${provider.url}/v1/?api-version=x&y=1` };
    const authClient = new OAuth2Client();
    authClient.setCredentials({ access_token: 'k', expiry_date: Date.now() + 3_600_000 });
    const server = { ...access, headers: {} };
    const modelProviders = new Map([
      ['groq', { ...server, wire: 'chat' as const }],
      ['my-server', { ...server, wire: 'responses' as const }],
    ]);
    const engines = createEngines(
      { model: undefined, providers: { anthropic: access, openai: access, google }, modelProviders },
      { direct: { google: { authClient, baseUrl: `${provider.url}/v1?api-version=x&y=1` } } },
    );
    for (const { model } of CASES) {
      await runTurn(engines.resolve(model).engine, { model, prompt: 'hi' });
      const path = provider.requests.at(-1)?.path ?? '';
      expect(path).toMatch(/^\/v1\/[^?]+\?(alt=sse&)?api-version=x&y=1$/);
    }
  });

  it('the query of a base URL is used where logins are checked and where Codex calls', () => {
    expect(joinUrl(toBaseUrl('https://h/openai/?api-version=x#top'), '/models?limit=1')).toBe(
      'https://h/openai/v1/models?limit=1&api-version=x',
    );
    expect(joinUrl('https://h/api/', '/codex')).toBe('https://h/api/codex');
  });

  it('a versioned base URL stays as it is', () => {
    expect(toBaseUrl(' https://example.test/openai/v1beta1/ ')).toBe('https://example.test/openai/v1beta1');
  });
});

describe('contextTokens', () => {
  it('contextTokens is the window that the operator names, less room for the answer', () => {
    const models = new Map([
      ['openai/small', { context_tokens: 8_192 }],
      ['openai/terse', { context_tokens: 8_192, max_output_tokens: 192 }],
    ]);
    expect(contextTokens('openai/small', models)).toBe(6_144);
    expect(contextTokens('openai/terse', models)).toBe(8_000);
    expect(contextTokens('openai/other', models)).toBe(contextTokens('openai/other'));
  });

  it('contextTokens is a positive budget for every default model and for unknown models', () => {
    for (const name of PROVIDER_NAMES) expect(contextTokens(PROVIDERS[name].defaultModel)).toBeGreaterThan(50_000);
    expect(contextTokens('offline/echo')).toBeGreaterThan(50_000);
    expect(contextTokens('openai/gpt-4o')).toBeLessThan(128_000);
  });
});
