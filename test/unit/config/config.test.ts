// The environment selects the adapters, each variable has its default, and every mistake is one clear line that never
// shows a secret.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type Environment, trimEnvironment } from '../../../shared/config/environment.ts';
import { loadConfig } from '../../../shared/config/load-config.ts';
import { ConfigError } from '../../../shared/config/read-variables.ts';
import { Variables } from '../../../shared/config/variables.ts';
import { LOCAL_KEY } from '../../../shared/protocol.ts';
import { startInProcess } from '../../support/fixtures/gateway/in-process.ts';

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

/** A value that each variable takes: a new variable needs one here. */
const VALID: Readonly<Record<keyof typeof Variables.shape, string>> = {
  ...{ PORT: '8081', HOST: '127.0.0.1', GATEWAY_API_KEY: 'bare', GATEWAY_KEYS: KEYS, GATEWAY_LIMITS: '5/minute' },
  ...{ GATEWAY_KEY_SOURCE: 'environment', GATEWAY_DATA_DIR: '/data', GATEWAY_STORE: 'memory', GATEWAY_BUS: 'local' },
  GATEWAY_DATABASE: 'gateway-restored',
  ...{ GATEWAY_TOPIC: 'topic', GATEWAY_LOG: 'pretty', GATEWAY_DAILY_TOKENS: '7', GATEWAY_STORAGE_MB: '8' },
  GATEWAY_RETENTION_DAYS: '30',
  ...{ GATEWAY_LEASE_MS: '3000', GATEWAY_HEARTBEAT_MS: '1000', GATEWAY_TURN_TIMEOUT_MS: '5000' },
  ...{ MODEL: 'openai/x', MODELS: '{"openai/x": {"context_tokens": 8192}}', ENGINE: 'codex' },
  MODEL_PROVIDERS: '{"groq": {"base_url": "https://g.example/v1", "api_key": "g", "wire": "chat"}}',
  ...{ CODEX_BIN: process.execPath, GOOGLE_APPLICATION_CREDENTIALS: import.meta.filename },
  ...{ ANTHROPIC_API_KEY: 'a', ANTHROPIC_BASE_URL: 'https://a.example', OPENAI_API_KEY: 'o' },
  ...{ OPENAI_BASE_URL: 'https://o.example/v1', GOOGLE_BASE_URL: 'https://g.example' },
  ...{ CHATGPT_BASE_URL: 'https://c.example', KMS_KEY: 'projects/p/locations/l/keyRings/r/cryptoKeys/k' },
  ...{ GOOGLE_CLOUD_PROJECT: 'p', GOOGLE_CLOUD_LOCATION: 'l', FIRESTORE_EMULATOR_HOST: 'h:1' },
  ...{ PUBSUB_EMULATOR_HOST: '[::1]:65535', WEBHOOK_SECRETS: 'github:abc whsec_YWJj', WEBHOOK_LIMITS: '9/minute' },
  ...{ ALLOWED_ORIGINS: 'https://x.example', BFF_BASE_URL: 'http://b.example' },
  ...{
    BFF_BACKENDS: '{"other": {"base_url": "https://d.example"}}',
    MCP_SERVERS: '{"a": {"url": "https://m.example"}}',
  },
  ...{ COMPANION_URL: 'https://c.example', COMPANION_AUDIENCE: 'a', COMPANION_CALLER: 'c@example.com' },
  ...{ SOCKET_URL: 'wss://c.example/ws', TURNS: 'function' },
  ...{ SANDBOX_URL: 'https://s.example', SANDBOX_TOKEN: 't'.repeat(32), SANDBOX_AUDIENCE: 's' },
  ...{ SANDBOX_CALLERS: 'a@example.com, b@example.com' },
  ...{ PUSH_AUDIENCE: 'p', PUSH_SERVICE_ACCOUNT: 'p@example.com', SWEEP_SERVICE_ACCOUNT: 's@example.com' },
  ...{ UPTIME_SERVICE_ACCOUNT: 'u@example.com', PUSH_INVOKER_CHECK: 'iam', HTTP_PROXY: 'http://x.example' },
  ...{
    HTTPS_PROXY: 'http://y.example',
    NO_PROXY: 'z.example',
    K_SERVICE: 'jsonrpc',
    K_REVISION: 'jsonrpc-1',
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318',
    OTEL_SERVICE_NAME: 'gateway',
    HOME: '/home',
    PATH: '/bin',
  },
};

/** All that can be set at once: a sandbox service takes one kind of credential. */
const { SANDBOX_AUDIENCE: _, ...ACCEPTED } = VALID;

/** Set by the machine and the platform, which any value comes from. */
const SET_BY_OTHERS = ['HOME', 'PATH', 'K_SERVICE', 'K_REVISION'];

describe('every variable', () => {
  const names = Object.keys(VALID).filter((name) => !SET_BY_OTHERS.includes(name));

  it('every variable is accepted with a valid value', () => {
    expect(Object.keys(VALID).toSorted()).toEqual(Object.keys(Variables.shape).toSorted());
    expect(loadConfig(ACCEPTED).warnings).toEqual([]);
  });

  // Line ends, control characters and lengths of all kinds, also within what a message quotes.
  const wrong = [
    'a\nb\0',
    '\u001b]0;x\u0007',
    `${'x'.repeat(5_000)}\n`,
    '{"a\\nb": 1}',
    '{"openai/x\\ny": {"\\u2028": 1}}',
  ];
  it.each(names)('every variable is validated at start, with one line about a mistake: %s', (name) => {
    const found = [...wrong, '@/no\nwhere', 'https://x y\nz'].flatMap((value) => {
      try {
        loadConfig({ GATEWAY_API_KEY: 'k', [name]: value });
        return [];
      } catch (error) {
        expect(error).toBeInstanceOf(ConfigError);
        return error instanceof ConfigError ? error.problems : [];
      }
    });
    expect(found).not.toEqual([]);
    for (const line of found) {
      expect(line).toMatch(new RegExp(`^${name}: \\P{C}{3,310}$`, 'u'));
    }
  });
});

describe('nothing set', () => {
  it('without variables the gateway is local, on loopback, with the development key and the embedded store', () => {
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
      webhookLimits: [{ max: 1000, windowMs: 60_000 }],
      storageBytesMax: 1024 * 2 ** 20,
    });
  });

  it('an empty variable counts as not set', () => {
    expect(loadConfig({ PORT: '', GATEWAY_API_KEY: '', GATEWAY_LIMITS: '', HOST: '' })).toEqual(loadConfig({}));
  });
});

describe('tokens of Pub/Sub and Cloud Scheduler', () => {
  it('tokens of Pub/Sub and Cloud Scheduler may lack a signature only on Cloud Run, where the invoker is checked', () => {
    const deployed = { K_SERVICE: 'deployments', GATEWAY_API_KEY: 'a-key-of-this-test' };
    expect(loadConfig(deployed).push.isInvokerChecked).toBe(false);
    expect(loadConfig({ ...deployed, PUSH_INVOKER_CHECK: 'iam' }).push.isInvokerChecked).toBe(true);
    expect(() => loadConfig({ PUSH_INVOKER_CHECK: 'iam' })).toThrow(/^ *PUSH_INVOKER_CHECK: iam is only/m);
  });
});

describe('the sandbox service', () => {
  const SANDBOX_URL = 'https://sandbox.example';
  const SANDBOX_TOKEN = 'x'.repeat(32);

  it('the sandbox service is reached with a token or with ID tokens, else sandboxes run in this process', () => {
    expect(loadConfig({}).sandbox).toBeUndefined();
    expect(loadConfig({ SANDBOX_TOKEN }).sandbox).toBeUndefined();
    expect(loadConfig({ SANDBOX_URL, SANDBOX_TOKEN }).sandbox).toEqual({ url: SANDBOX_URL, token: SANDBOX_TOKEN });
    expect(loadConfig({ SANDBOX_URL, SANDBOX_AUDIENCE: 'a' }).sandbox).toEqual({ url: SANDBOX_URL, audience: 'a' });
  });

  const NOT_ONE = ['SANDBOX_TOKEN: must be set with SANDBOX_URL, or SANDBOX_AUDIENCE instead of it, and not both'];
  it.each<readonly [string, Environment, readonly string[]]>([
    ['neither', { SANDBOX_URL }, NOT_ONE],
    ['both', { SANDBOX_URL, SANDBOX_TOKEN, SANDBOX_AUDIENCE: 'a' }, NOT_ONE],
    [
      'a short token',
      { SANDBOX_URL, SANDBOX_TOKEN: 'x'.repeat(31) },
      ['SANDBOX_TOKEN: must have at least 32 characters'],
    ],
    [
      'plain http to another machine',
      { SANDBOX_URL: 'http://sandbox.example', SANDBOX_TOKEN },
      ['SANDBOX_URL: must be an https URL; plain http only for a loopback address'],
    ],
    [
      'plain http to a name that only begins like a loopback address',
      { SANDBOX_URL: 'http://127.0.0.1.example', SANDBOX_TOKEN },
      ['SANDBOX_URL: must be an https URL; plain http only for a loopback address'],
    ],
  ])('the sandbox service is refused at start with one line: %s', (_, env, lines) => {
    expect(problems(env)).toEqual(lines);
  });

  it.each(['http://127.0.0.1:8081', 'http://localhost:8081', 'http://[::1]:8081'])(
    'the sandbox service may be at %s',
    (url) => {
      expect(loadConfig({ SANDBOX_URL: url, SANDBOX_TOKEN }).sandbox?.url).toBe(url);
    },
  );
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
  ])('adapters are chosen by %s', (_name, env, expected) => {
    expect(loadConfig(env)).toMatchObject(expected);
  });
});

describe('keys', () => {
  it('keys are read inline or from a file, in addition to the bare key', () => {
    const file = join(directory, 'keys.json');
    writeFileSync(file, KEYS);
    for (const GATEWAY_KEYS of [KEYS, `@${file}`]) {
      const { keys } = loadConfig({ GATEWAY_KEYS, GATEWAY_API_KEY: 'bare' });
      expect(keys).toEqual({ source: 'environment', documents: [KEYS, 'bare'] });
    }
  });

  it.each(['127.0.0.1', '127.0.0.2', 'localhost', 'LOCALHOST', '::1'])(
    'keys may be dev-key on the loopback host %s',
    (HOST) => {
      const keys = { source: 'environment', documents: [LOCAL_KEY] };
      for (const key of ['', LOCAL_KEY]) expect(loadConfig({ HOST, GATEWAY_API_KEY: key })).toMatchObject({ keys });
    },
  );

  it('keys must be set when HOST is not a loopback address: dev-key is public', () => {
    for (const HOST of ['0.0.0.0', '::', '192.0.2.1', '128.0.0.1', '127.0.0.1.example', 'gateway.example']) {
      expect(problems({ HOST })).toEqual([expect.stringMatching(/^GATEWAY_API_KEY: must be set .*HOST/)]);
      expect(problems({ HOST, GATEWAY_API_KEY: LOCAL_KEY })).toEqual([expect.stringMatching(/dev-key is public/)]);
      expect(loadConfig({ HOST, GATEWAY_API_KEY: 'mine' }).host).toBe(HOST);
    }
    expect(problems({ K_SERVICE: 'jsonrpc' })).toHaveLength(1);
    const document = JSON.stringify({ keys: [{ id: 'x', key: LOCAL_KEY }] });
    expect(problems({ HOST: '0.0.0.0', GATEWAY_KEYS: document })).toEqual([expect.stringMatching(/dev-key is public/)]);
  });
});

describe('providers', () => {
  it('providers are those whose credentials are set, each with its base URL', () => {
    expect(loadConfig({ ANTHROPIC_API_KEY: 'a', OPENAI_BASE_URL: 'https://o.example' }).providers).toEqual({
      anthropic: { apiKey: 'a' },
    });
    const both = { OPENAI_API_KEY: 'o', OPENAI_BASE_URL: 'https://o.example', ANTHROPIC_BASE_URL: 'https://a.example' };
    expect(loadConfig({ ...both, ANTHROPIC_API_KEY: 'a' }).providers).toEqual({
      anthropic: { apiKey: 'a', baseUrl: 'https://a.example' },
      openai: { apiKey: 'o', baseUrl: 'https://o.example' },
    });
  });

  it('a Google provider is configured where application default credentials are: a file, a login of gcloud, the platform', () => {
    const google = { google: { project: 'p', location: 'us-central1' } };
    const project = { GOOGLE_CLOUD_PROJECT: 'p', GATEWAY_API_KEY: 'k' };
    const file = join(directory, '.config/gcloud/application_default_credentials.json');
    expect(loadConfig({ ...project, HOME: directory }).providers).toEqual({});
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, '{}');
    expect(loadConfig({ ...project, HOME: directory }).providers).toEqual(google);
    expect(loadConfig({ ...project, GOOGLE_APPLICATION_CREDENTIALS: file }).providers).toEqual(google);
    expect(loadConfig({ ...project, K_SERVICE: 'jsonrpc' }).providers).toEqual(google);
    expect(loadConfig({ GOOGLE_APPLICATION_CREDENTIALS: file }).providers).toEqual({});
  });
});

describe('models', () => {
  it('models are described inline or in a file', () => {
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

  it('models may be in files that Windows has written, as every document may', () => {
    const write = (name: string, document: object): string => {
      const file = join(directory, name);
      writeFileSync(file, `\ufeff${JSON.stringify(document)}\r\n`);
      return `@${file}`;
    };
    const config = loadConfig({
      MODELS: write('m.json', { 'openai/m': { context_tokens: 8192 } }),
      MCP_SERVERS: write('s.json', { s: { url: 'https://mcp.example/' } }),
      BFF_BACKENDS: write('b.json', { b: { base_url: 'https://b.example/' } }),
      GATEWAY_KEYS: write('k.json', { keys: [{ id: 'k', key: 'a-key-of-mine' }] }),
    });
    expect([config.models.size, config.mcpServers.size, config.backends.size]).toEqual([1, 1, 1]);
    expect(config.keys).toMatchObject({ documents: [expect.stringMatching(/^\{/)] });
  });
});

describe('a mistake', () => {
  it.each<readonly [string, Environment, string]>([
    ['an unknown model', { MODEL: 'nobody/nothing' }, 'MODEL'],
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
    ['an emulator of a port out of range', { FIRESTORE_EMULATOR_HOST: 'localhost:65536' }, 'FIRESTORE_EMULATOR_HOST: '],
    ['a host that is a URL', { HOST: 'http://localhost' }, 'HOST: must be a host name'],
    ['a project that is none', { GOOGLE_CLOUD_PROJECT: 'My Project' }, 'GOOGLE_CLOUD_PROJECT: '],
    [
      'credentials that are not there',
      { GOOGLE_APPLICATION_CREDENTIALS: '/nowhere/adc.json' },
      'GOOGLE_APPLICATION_CREDENTIALS: the file ',
    ],
    ['a Codex that cannot be started', { CODEX_BIN: '/nowhere/codex' }, 'CODEX_BIN: '],
    ['an account that is none', { PUSH_SERVICE_ACCOUNT: 'pusher' }, 'PUSH_SERVICE_ACCOUNT: '],
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
    [
      'a base URL with credentials',
      { OPENAI_BASE_URL: 'https://u:p@o.example' },
      'OPENAI_BASE_URL: must be a URL without',
    ],
    ['a backend with credentials', { BFF_BASE_URL: 'https://u@b.example' }, 'BFF_BASE_URL: must be a URL without'],
    [
      'an MCP server with credentials',
      { MCP_SERVERS: '{"s": {"url": "https://u:p@m.example"}}' },
      'MCP_SERVERS: .* URLs without user',
    ],
    ['a base URL that is no URL', { ANTHROPIC_BASE_URL: 'localhost:1' }, 'ANTHROPIC_BASE_URL: '],
    ['a KMS key of no known form', { KMS_KEY: 'my-key' }, 'KMS_KEY: '],
    ['storage of no size', { GATEWAY_STORAGE_MB: '0' }, 'GATEWAY_STORAGE_MB: '],
    [
      'a retention of no days',
      { GATEWAY_RETENTION_DAYS: '0' },
      'GATEWAY_RETENTION_DAYS: must be a whole number of days, ',
    ],
    [
      'a retention of part of a day',
      { GATEWAY_RETENTION_DAYS: '0.5' },
      'GATEWAY_RETENTION_DAYS: must be a whole number',
    ],
    [
      'a retention that is no number',
      { GATEWAY_RETENTION_DAYS: '30d' },
      'GATEWAY_RETENTION_DAYS: must be a whole number',
    ],
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
  ])('a configuration error is one line that names its variable: %s', (_name, env, start) => {
    const found = problems(env);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(new RegExp(`^${start}.+`));
    expect(found[0]).not.toContain('\n');
  });

  it('a mistake does not hide another: each has its line', () => {
    const found = problems({ PORT: 'x', GATEWAY_STORE: 'y', GATEWAY_LIMITS: 'z', ALLOWED_ORIGINS: '*' });
    expect(found.map((line) => line.split(':')[0])).toEqual([
      'PORT',
      'GATEWAY_LIMITS',
      'GATEWAY_STORE',
      'ALLOWED_ORIGINS',
    ]);
  });

  it('a mistake in one variable does not hide mistakes in combinations of others', () => {
    const found = problems({ PORT: 'x', HOST: '0.0.0.0', GATEWAY_STORE: 'firestore' });
    expect(found.map((line) => line.split(':')[0])).toEqual(['PORT', 'GATEWAY_API_KEY', 'GOOGLE_CLOUD_PROJECT']);
    const wrongKey = problems({ HOST: '0.0.0.0', GATEWAY_API_KEY: 'a b' });
    expect(wrongKey.map((line) => line.split(':')[0])).toEqual(['GATEWAY_API_KEY']);
  });

  it('a mistake in a secret does not show the secret', () => {
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

describe('white space around a value', () => {
  it('white space around a value is no part of it: CR, newlines, blanks and tabs, in every variable', () => {
    const file = join(directory, 'trimmed.json');
    writeFileSync(file, `${KEYS}\r\n`);
    const env: Environment = { ...ACCEPTED, GATEWAY_KEYS: `@${file}` };
    for (const space of ['\r', '\n', '\r\n', ' \t ']) {
      const spaced = Object.fromEntries(Object.entries(env).map(([name, value]) => [name, `${space}${value}${space}`]));
      expect(loadConfig(spaced)).toEqual(loadConfig(env));
    }
    expect(loadConfig({ MODEL: ' \r\n' })).toEqual(loadConfig({}));
  });

  it('white space around a value is removed also for the libraries that read the environment themselves', () => {
    const env = { A: ' x\r\n', B: 'y', C: undefined, D: '\n' };
    expect(trimEnvironment(env)).toBe(env);
    expect(env).toEqual({ A: 'x', B: 'y', C: undefined, D: '' });
  });
});

describe('a variable that looks like a misspelt one', () => {
  it.each([
    ['GATEWAY_LIMIT', 'GATEWAY_LIMITS'],
    ['MODELL', 'MODEL'],
    ['OPENAI_APIKEY', 'OPENAI_API_KEY'],
    ['OPENAI_KEY', 'OPENAI_API_KEY'],
    ['ANTHROPIC_API_KYE', 'ANTHROPIC_API_KEY'],
    ['ANTHROPIC_KEY', 'ANTHROPIC_API_KEY'],
    ['WEBHOOK_SECRET', 'WEBHOOK_SECRETS'],
    ['ALLOWED_ORIGIN', 'ALLOWED_ORIGINS'],
    ['MCP_SERVER', 'MCP_SERVERS'],
    ['GATEWAY_DATADIR', 'GATEWAY_DATA_DIR'],
    ['gateway_limits', 'GATEWAY_LIMITS'],
    ['ENGIN', 'ENGINE'],
    ['GOOGLE_PROJECT', 'GOOGLE_CLOUD_PROJECT'],
  ])('a variable that looks like a misspelt one is named with what was meant: %s', (name, meant) => {
    const { warnings } = loadConfig({ [name]: 'hunter2' });
    expect(warnings).toEqual([`${name} is not a variable of the gateway and is ignored; did you mean ${meant}?`]);
  });

  it('a variable that looks like a misspelt one is named when it begins like ours and is near none', () => {
    expect(loadConfig({ GATEWAY_COLOUR: 'red' }).warnings).toEqual([
      'GATEWAY_COLOUR is not a variable of the gateway and is ignored',
    ]);
  });

  it('a variable that looks like a misspelt one is a warning in the log at start, without its value', async () => {
    const gateway = await startInProcess({ GATEWAY_LIMIT: 'hunter2', OPENAI_APIKEY: 'hunter2' });
    const lines = gateway.logged().trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line))).toMatchObject([
      { severity: 'WARNING', message: expect.stringMatching(/^GATEWAY_LIMIT .*did you mean GATEWAY_LIMITS\?$/) },
      { severity: 'WARNING', message: expect.stringMatching(/^OPENAI_APIKEY .*did you mean OPENAI_API_KEY\?$/) },
    ]);
    expect(lines.join('')).not.toContain('hunter2');
    await gateway.close();
  });

  it('a warning about a misspelt variable is printed with the mistakes that it explains', () => {
    expect(() => loadConfig({ HOST: '0.0.0.0', GATEWAY_APIKEY: 'x' })).toThrow(/did you mean GATEWAY_API_KEY\?/);
  });

  it('a variable of another program, or one of the gateway, is not taken for a misspelt one', () => {
    const others = [
      ...[
        'SHELL',
        'PWD',
        'LANG',
        'TERM',
        'USER',
        'HOSTNAME',
        'HOSTS',
        'PORTS',
        'PATHS',
        'MODE_OF_X',
        'NODE_ENV',
        'EDITOR',
      ],
      ...['OPENAI_ORG_ID', 'GOOGLE_API_KEY', 'ALL_PROXY', 'FTP_PROXY', 'FUNCTION_TARGET', 'GATEWAY_URL', 'GATEWAY_KEY'],
      ...[
        'K_REVISION',
        'K_CONFIGURATION',
        'CLOUDSDK_CONFIG',
        'model',
        'engines',
        'npm_config_cache',
        'CI',
        '_',
        'SHLVL',
      ],
    ];
    expect(loadConfig(Object.fromEntries(others.map((name) => [name, 'x']))).warnings).toEqual([]);
    expect(loadConfig({ GATEWAY_LIMITS: '1/minute', MODEL: 'offline/echo' }).warnings).toEqual([]);
  });
});
