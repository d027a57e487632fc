// The environment: what is the default, what selects which adapter, and one clear line per mistake that never shows a secret.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { ConfigError, type Environment, LOCAL_KEY, loadConfig } from '../../shared/config.ts';

const directory = mkdtempSync(join(tmpdir(), 'config-'));
afterAll(() => rmSync(directory, { recursive: true }));

function problems(env: Environment): readonly string[] {
  try {
    loadConfig(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  throw new Error('was accepted');
}

const KEYS = JSON.stringify({ keys: [{ id: 'a', key: 'key-a', scopes: ['conversation'] }] });

describe('nothing set', () => {
  it('is a local gateway on loopback with the development key and the embedded store', () => {
    expect(loadConfig({})).toMatchObject({
      host: '127.0.0.1',
      port: 8080,
      deployed: false,
      store: 'embedded',
      bus: 'local',
      dataDir: '.data',
      keys: { source: 'environment', documents: [LOCAL_KEY] },
      limits: [
        { max: 100, windowMs: 60_000 },
        { max: 1000, windowMs: 3_600_000 },
        { max: 10_000, windowMs: 86_400_000 },
      ],
      providers: {},
      webhookSecrets: [],
    });
  });

  it('is what an empty variable means, too', () => {
    expect(loadConfig({ PORT: '', GATEWAY_API_KEY: '', GATEWAY_LIMITS: '', HOST: '' })).toEqual(loadConfig({}));
  });
});

describe('adapters', () => {
  it.each<readonly [string, Environment, object]>([
    [
      'an emulator',
      { FIRESTORE_EMULATOR_HOST: 'h:1' },
      { store: 'firestore', bus: 'local', projectId: 'demo-gateway' },
    ],
    ['the other emulator', { PUBSUB_EMULATOR_HOST: 'h:1' }, { store: 'embedded', bus: 'pubsub' }],
    [
      'both in a project',
      { FIRESTORE_EMULATOR_HOST: 'h:1', PUBSUB_EMULATOR_HOST: 'h:2', GOOGLE_CLOUD_PROJECT: 'p' },
      { store: 'firestore', bus: 'pubsub', projectId: 'p', keys: { source: 'environment' } },
    ],
    [
      'a project',
      { GOOGLE_CLOUD_PROJECT: 'p' },
      { store: 'firestore', bus: 'pubsub', keys: { source: 'secret-manager' } },
    ],
    [
      'a project, overridden',
      { GOOGLE_CLOUD_PROJECT: 'p', GATEWAY_STORE: 'memory', GATEWAY_BUS: 'local' },
      { store: 'memory', bus: 'local' },
    ],
    [
      'a project with a key',
      { GOOGLE_CLOUD_PROJECT: 'p', GATEWAY_API_KEY: 'k' },
      { keys: { source: 'environment', documents: ['k'] } },
    ],
  ])('are chosen by %s', (_name, env, expected) => {
    expect(loadConfig(env)).toMatchObject(expected);
  });
});

describe('keys', () => {
  it('come inline or from a file, beside the bare one', () => {
    const file = join(directory, 'keys.json');
    writeFileSync(file, KEYS);
    for (const GATEWAY_KEYS of [KEYS, `@${file}`]) {
      const { keys } = loadConfig({ GATEWAY_KEYS, GATEWAY_API_KEY: 'bare' });
      expect(keys).toEqual({ source: 'environment', documents: [KEYS, 'bare'] });
    }
  });

  it('must be chosen where others can reach the gateway: dev-key is public', () => {
    for (const HOST of ['0.0.0.0', '::', '192.0.2.1', 'gateway.example']) {
      expect(problems({ HOST })).toEqual([expect.stringMatching(/^GATEWAY_API_KEY: must be set .*HOST/)]);
      expect(problems({ HOST, GATEWAY_API_KEY: LOCAL_KEY })).toEqual([expect.stringMatching(/dev-key is public/)]);
      expect(loadConfig({ HOST, GATEWAY_API_KEY: 'mine' }).host).toBe(HOST);
    }
    expect(problems({ K_SERVICE: 'jsonrpc' })).toHaveLength(1);
    const document = JSON.stringify({ keys: [{ id: 'x', key: LOCAL_KEY }] });
    expect(problems({ HOST: '0.0.0.0', GATEWAY_KEYS: document })).toEqual([expect.stringMatching(/dev-key is public/)]);
  });
});

describe('models', () => {
  it('are described inline or in a file', () => {
    const facts = {
      context_tokens: 8192,
      max_output_tokens: 1024,
      price: { input: 0.5, output: 2, cached_input: 0.05 },
    };
    const document = JSON.stringify({ 'openai/@cf/some/model': facts });
    const file = join(directory, 'models.json');
    writeFileSync(file, document);
    for (const MODELS of [document, `@${file}`])
      expect(loadConfig({ MODELS }).models.get('openai/@cf/some/model')).toEqual(facts);
    expect(loadConfig({}).models.size).toBe(0);
  });
});

describe('a mistake', () => {
  it.each<readonly [string, Environment, string]>([
    ['a model of nobody', { MODEL: 'nobody/nothing' }, 'MODEL'],
    ['a model whose path climbs', { MODEL: 'openai/../admin' }, 'MODEL: '],
    ['a model with white space', { MODEL: 'openai/gpt 5' }, 'MODEL: '],
    ['facts that are not JSON', { MODELS: '{' }, 'MODELS: is not '],
    ['facts of no model', { MODELS: '{"gpt-5": {}}' }, 'MODELS: "gpt-5": must be provider/model'],
    ['an unknown fact', { MODELS: '{"openai/x": {"window": 1}}' }, 'MODELS: openai/x: '],
    ['a window of no tokens', { MODELS: '{"openai/x": {"context_tokens": 0}}' }, 'MODELS: openai/x.context_tokens: '],
    ['half a price', { MODELS: '{"openai/x": {"price": {"input": 1}}}' }, 'MODELS: openai/x.price.output: '],
    ['a file of facts that is not there', { MODELS: '@/nowhere/models.json' }, 'MODELS: the file cannot be read'],
    ['a model without its provider', { MODEL: 'gpt-4o' }, 'MODEL'],
    ['an offline model that there is not', { MODEL: 'offline/none' }, 'MODEL: '],
    ['a lease that is no number', { GATEWAY_LEASE_MS: 'abc' }, 'GATEWAY_LEASE_MS: must be a number'],
    ['an emulator without a port', { FIRESTORE_EMULATOR_HOST: 'localhost' }, 'FIRESTORE_EMULATOR_HOST: '],
    ['an emulator that is a URL', { PUBSUB_EMULATOR_HOST: 'http://localhost:1' }, 'PUBSUB_EMULATOR_HOST: '],
    ["a provider's key of two lines", { ANTHROPIC_API_KEY: 'sk\nant' }, 'ANTHROPIC_API_KEY: '],
    ['keys in a list', { GATEWAY_KEYS: '[]' }, 'GATEWAY_KEYS: '],
    ["a file's name without its @", { GATEWAY_KEYS: 'keys.json' }, 'GATEWAY_KEYS: '],
    ['a port that is no number', { PORT: 'http' }, 'PORT: '],
    ['a port out of range', { PORT: '65536' }, 'PORT: '],
    ['a fractional port', { PORT: '80.5' }, 'PORT: '],
    ['limits of no form', { GATEWAY_LIMITS: 'lots' }, 'GATEWAY_LIMITS: '],
    ['a limit of zero', { GATEWAY_LIMITS: '0/minute' }, 'GATEWAY_LIMITS: '],
    ['a window twice', { GATEWAY_LIMITS: '1/minute,2/minute' }, 'GATEWAY_LIMITS: '],
    ['an unknown window', { GATEWAY_LIMITS: '1/fortnight' }, 'GATEWAY_LIMITS: '],
    ['an unknown store', { GATEWAY_STORE: 'mongodb' }, 'GATEWAY_STORE: '],
    ['Firestore without a project', { GATEWAY_STORE: 'firestore' }, 'GOOGLE_CLOUD_PROJECT: '],
    ['a base URL that is no URL', { ANTHROPIC_BASE_URL: 'localhost:1' }, 'ANTHROPIC_BASE_URL: '],
    ['a KMS key of no known form', { KMS_KEY: 'my-key' }, 'KMS_KEY: '],
    ['storage of no size', { GATEWAY_STORAGE_MB: '0' }, 'GATEWAY_STORAGE_MB: '],
    ['webhook limits of no form', { WEBHOOK_LIMITS: '1000' }, 'WEBHOOK_LIMITS: '],
    ['a webhook secret of no known form', { WEBHOOK_SECRETS: 'secret' }, 'WEBHOOK_SECRETS: '],
    ['an origin with a path', { ALLOWED_ORIGINS: 'https://a.example/x' }, 'ALLOWED_ORIGINS: '],
    ['a wildcard origin', { ALLOWED_ORIGINS: '*' }, 'ALLOWED_ORIGINS: '],
    [
      'a heartbeat as long as the lease',
      { GATEWAY_LEASE_MS: '1000', GATEWAY_HEARTBEAT_MS: '1000' },
      'GATEWAY_HEARTBEAT_MS: ',
    ],
    ['keys that are not JSON', { GATEWAY_KEYS: '{' }, 'GATEWAY_KEYS: '],
    ['keys of no known scope', { GATEWAY_KEYS: '{"keys":[{"id":"a","key":"b","scopes":["root"]}]}' }, 'GATEWAY_KEYS: '],
    ['a file of keys that is not there', { GATEWAY_KEYS: '@/nowhere/keys.json' }, 'GATEWAY_KEYS: '],
    ['a key with a space', { GATEWAY_API_KEY: 'a b' }, 'GATEWAY_API_KEY: '],
  ])('is said in one line that names its variable: %s', (_name, env, start) => {
    const found = problems(env);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(new RegExp(`^${start}.+`));
    expect(found[0]).not.toContain('\n');
  });

  it('does not hide another: each has its line', () => {
    const found = problems({ PORT: 'x', GATEWAY_STORE: 'y', GATEWAY_LIMITS: 'z', ALLOWED_ORIGINS: '*' });
    expect(found.map((line) => line.split(':')[0])).toEqual([
      'PORT',
      'GATEWAY_LIMITS',
      'GATEWAY_STORE',
      'ALLOWED_ORIGINS',
    ]);
  });

  it('does not hide what the others say together', () => {
    const found = problems({ PORT: 'x', HOST: '0.0.0.0', GATEWAY_STORE: 'firestore' });
    expect(found.map((line) => line.split(':')[0])).toEqual(['PORT', 'GATEWAY_API_KEY', 'GOOGLE_CLOUD_PROJECT']);
    const wrongKey = problems({ HOST: '0.0.0.0', GATEWAY_API_KEY: 'a b' });
    expect(wrongKey.map((line) => line.split(':')[0])).toEqual(['GATEWAY_API_KEY']);
  });

  it('in a secret does not show the secret', () => {
    const text = [
      ...problems({ WEBHOOK_SECRETS: 'hunter2' }),
      ...problems({ GATEWAY_API_KEY: 'hunter2 hunter2' }),
      ...problems({ GATEWAY_KEYS: '{"keys":[{"id":"a","key":"hunter2 "}]}' }),
      ...problems({ GATEWAY_KEYS: '{"keys": hunter2}' }),
      ...problems({ GATEWAY_KEYS: 'hunter2' }),
      ...problems({ OPENAI_API_KEY: 'hunter2 hunter2' }),
    ].join('\n');
    expect(text).not.toContain('hunter2');
  });
});
