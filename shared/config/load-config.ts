// Reads and validates the environment once, with one line per mistake. No other module reads process.env, except the
// functions' entry point, which must not load this module for a health probe.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { LOCAL_KEY, PATHS } from '../protocol.ts';
import { VERSION } from '../version.ts';
import { type Config, PROVIDER_URLS } from './config.ts';
import type { Environment } from './environment.ts';
import { ConfigError, readVariables, toLine } from './read-variables.ts';
import { isLoopback } from './values/loopback.ts';
import { modelIdIssue } from './values/model-id.ts';
import { toProxy } from './values/proxy.ts';
import { type Settings, Variables } from './variables.ts';

/**
 * Path of the application default credentials that `gcloud auth application-default login` writes, relative to HOME.
 */
const GCLOUD_LOGIN = '.config/gcloud/application_default_credentials.json';

/**
 * Reads and validates an environment. Throws ConfigError with one line per mistake; no line contains the value of a
 * secret.
 */
export function loadConfig(env: Environment): Config {
  const { settings, problems, warnings } = readVariables(Variables, env);
  const onEmulator = settings.FIRESTORE_EMULATOR_HOST !== undefined || settings.PUBSUB_EMULATOR_HOST !== undefined;
  const projectId = settings.GOOGLE_CLOUD_PROJECT ?? (onEmulator ? 'demo-gateway' : undefined);
  const inCloud = settings.GOOGLE_CLOUD_PROJECT !== undefined && !onEmulator;
  const config: Config = {
    host: settings.HOST,
    port: settings.PORT,
    deployed: settings.K_SERVICE !== undefined,
    service: toService(settings),
    limits: settings.GATEWAY_LIMITS,
    dataDir: settings.GATEWAY_DATA_DIR,
    store: settings.GATEWAY_STORE ?? (settings.FIRESTORE_EMULATOR_HOST || inCloud ? 'firestore' : 'embedded'),
    bus: settings.GATEWAY_BUS ?? (settings.PUBSUB_EMULATOR_HOST || inCloud ? 'pubsub' : 'local'),
    keys: chooseKeys(settings, inCloud, problems),
    projectId,
    database: settings.GATEWAY_DATABASE,
    emulators: { firestore: settings.FIRESTORE_EMULATOR_HOST, pubsub: settings.PUBSUB_EMULATOR_HOST },
    topic: settings.GATEWAY_TOPIC,
    model: settings.MODEL,
    models: settings.MODELS ?? new Map(),
    engine: settings.ENGINE,
    codexProgram: settings.CODEX_BIN,
    providers: readProviders(settings, inCloud),
    modelProviders: settings.MODEL_PROVIDERS?.providers ?? new Map(),
    providerUrls: {
      anthropic: settings.ANTHROPIC_BASE_URL ?? PROVIDER_URLS.anthropic,
      openai: settings.OPENAI_BASE_URL ?? PROVIDER_URLS.openai,
      google: settings.GOOGLE_BASE_URL ?? PROVIDER_URLS.google,
      chatgpt: settings.CHATGPT_BASE_URL ?? PROVIDER_URLS.chatgpt,
    },
    kmsKey: settings.KMS_KEY,
    webhookSecrets: settings.WEBHOOK_SECRETS,
    webhookLimits: settings.WEBHOOK_LIMITS,
    allowedOrigins: settings.ALLOWED_ORIGINS,
    companion: {
      url: settings.COMPANION_URL,
      audience: settings.COMPANION_AUDIENCE ?? settings.COMPANION_URL,
      caller: settings.COMPANION_CALLER,
    },
    turnsRun: settings.TURNS ?? (settings.COMPANION_URL === undefined ? 'function' : 'companion'),
    socketUrl: settings.SOCKET_URL ?? (settings.COMPANION_URL && toSocketUrl(settings.COMPANION_URL)),
    sandbox: readSandbox(settings, problems),
    push: {
      audience: settings.PUSH_AUDIENCE,
      serviceAccount: settings.PUSH_SERVICE_ACCOUNT,
      sweeper: settings.SWEEP_SERVICE_ACCOUNT,
      uptime: settings.UPTIME_SERVICE_ACCOUNT,
      isInvokerChecked: settings.PUSH_INVOKER_CHECK === 'iam',
    },
    backends: new Map([
      ...(settings.BFF_BACKENDS ?? []),
      // The operator configured this address for the backend, so it may be internal.
      ...(settings.BFF_BASE_URL === undefined
        ? []
        : [['default', { baseUrl: settings.BFF_BASE_URL, internal: true }] as const]),
    ]),
    mcpServers: settings.MCP_SERVERS ?? new Map(),
    logFormat: settings.GATEWAY_LOG ?? (process.stdout.isTTY && settings.K_SERVICE === undefined ? 'pretty' : 'json'),
    otlp: toOtlp(settings),
    dailyTokens: settings.GATEWAY_DAILY_TOKENS,
    storageBytesMax: settings.GATEWAY_STORAGE_MB * 2 ** 20,
    retentionDays: settings.GATEWAY_RETENTION_DAYS,
    warnings,
    proxy: toProxy(settings.HTTP_PROXY, settings.HTTPS_PROXY, settings.NO_PROXY),
    searchPath: settings.PATH,
    turns: {
      leaseMs: settings.GATEWAY_LEASE_MS,
      heartbeatMs: settings.GATEWAY_HEARTBEAT_MS,
      timeoutMs: settings.GATEWAY_TURN_TIMEOUT_MS,
    },
  };
  problems.push(...modelProblems(settings, problems), ...combinedProblems(settings, config));
  if (problems.length > 0) throw new ConfigError(problems, warnings);
  return config;
}

/** Mistakes in combinations of variables, each of which is valid. */
function combinedProblems(settings: Settings, config: Config): string[] {
  const found: string[] = [];
  if ((config.store === 'firestore' || config.bus === 'pubsub') && config.projectId === undefined) {
    found.push('GOOGLE_CLOUD_PROJECT: must be set for Firestore or Pub/Sub');
  }
  if (config.push.isInvokerChecked && !config.deployed) {
    found.push('PUSH_INVOKER_CHECK: iam is only for a service on Cloud Run, which checks the invoker');
  }
  if (settings.TURNS === 'companion' && settings.COMPANION_URL === undefined) {
    found.push('TURNS: companion needs COMPANION_URL');
  }
  if (config.turns.heartbeatMs * 2 > config.turns.leaseMs) {
    found.push('GATEWAY_HEARTBEAT_MS: must be at most half of GATEWAY_LEASE_MS');
  }
  return found;
}

/**
 * Selects the source of the keys; adds to `problems` when the gateway would be open to others or would have no keys.
 */
function chooseKeys(settings: Settings, inCloud: boolean, problems: string[]): Config['keys'] {
  const given = [settings.GATEWAY_KEYS, settings.GATEWAY_API_KEY].filter((entry) => entry !== undefined);
  const source = settings.GATEWAY_KEY_SOURCE ?? (given.length === 0 && inCloud ? 'secret-manager' : 'environment');
  if (source === 'secret-manager') {
    if (settings.GOOGLE_CLOUD_PROJECT === undefined) {
      problems.push('GOOGLE_CLOUD_PROJECT: must be set for keys from Secret Manager');
    }
    return { source };
  }
  const isLocal = isLoopback(settings.HOST) && settings.K_SERVICE === undefined;
  const documents = given.map(({ document }) => document);
  if (isLocal) return { source, documents: documents.length === 0 ? [LOCAL_KEY] : documents };
  if (documents.length === 0 && !problems.some((problem) => /^GATEWAY_(API_KEY|KEYS):/.test(problem))) {
    problems.push(`GATEWAY_API_KEY: must be set when HOST is not a loopback address (HOST is ${settings.HOST})`);
  }
  if (given.some(({ keys }) => keys.some((key) => sha256(LOCAL_KEY).equals(key.digest)))) {
    problems.push(`GATEWAY_API_KEY: ${LOCAL_KEY} is public; choose another key when HOST is not a loopback address`);
  }
  return { source, documents };
}

/** Adds to `problems` unless there is exactly one way to prove an identity to the service. */
function readSandbox(settings: Settings, problems: string[]): Config['sandbox'] {
  const { SANDBOX_URL: url, SANDBOX_TOKEN: token, SANDBOX_AUDIENCE: audience } = settings;
  if (url === undefined) return undefined;
  if (token !== undefined && audience === undefined) return { url, token };
  if (audience !== undefined && token === undefined) return { url, audience };
  if (problems.some((problem) => /^SANDBOX_(TOKEN|AUDIENCE):/.test(problem))) return undefined;
  problems.push('SANDBOX_TOKEN: must be set with SANDBOX_URL, or SANDBOX_AUDIENCE instead of it, and not both');
  return undefined;
}

/** Mistakes in the providers of the operator; without one, models of unknown providers. */
function modelProblems({ MODEL, MODELS, MODEL_PROVIDERS }: Settings, problems: readonly string[]): string[] {
  const wrong = (MODEL_PROVIDERS?.problems ?? []).map((problem) => `MODEL_PROVIDERS: ${toLine(problem)}`);
  if (wrong.length > 0 || problems.some((problem) => problem.startsWith('MODEL_PROVIDERS:'))) return wrong;
  const names = [...(MODEL_PROVIDERS?.providers.keys() ?? [])];
  const model = MODEL === undefined ? undefined : modelIdIssue(MODEL, names);
  const models = [...(MODELS?.keys() ?? [])].flatMap((id) => {
    const problem = modelIdIssue(id, names);
    return problem === undefined ? [] : [`MODELS: ${toLine(`${JSON.stringify(id.slice(0, 128))}: ${problem}`)}`];
  });
  return [...(model === undefined ? [] : [`MODEL: ${toLine(model)}`]), ...models];
}

function readProviders(settings: Settings, inCloud: boolean): Config['providers'] {
  const { ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL, OPENAI_API_KEY, OPENAI_BASE_URL } = settings;
  const hasGoogleCredentials =
    settings.GOOGLE_APPLICATION_CREDENTIALS !== undefined ||
    (inCloud && settings.K_SERVICE !== undefined) ||
    (settings.GOOGLE_CLOUD_PROJECT !== undefined && existsSync(path.join(settings.HOME, GCLOUD_LOGIN)));
  return {
    ...(ANTHROPIC_API_KEY === undefined
      ? {}
      : { anthropic: { apiKey: ANTHROPIC_API_KEY, ...(ANTHROPIC_BASE_URL && { baseUrl: ANTHROPIC_BASE_URL }) } }),
    ...(OPENAI_API_KEY === undefined
      ? {}
      : { openai: { apiKey: OPENAI_API_KEY, ...(OPENAI_BASE_URL && { baseUrl: OPENAI_BASE_URL }) } }),
    ...(hasGoogleCredentials && settings.GOOGLE_CLOUD_PROJECT !== undefined
      ? { google: { project: settings.GOOGLE_CLOUD_PROJECT, location: settings.GOOGLE_CLOUD_LOCATION } }
      : {}),
  };
}

function toService({ K_SERVICE: service, K_REVISION: version = VERSION }: Settings): Config['service'] {
  return service === undefined ? undefined : { service, version };
}

function toOtlp(settings: Settings): Config['otlp'] {
  const { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_SERVICE_NAME, K_SERVICE = 'codex-gateway' } = settings;
  return endpoint === undefined ? undefined : { endpoint, serviceName: OTEL_SERVICE_NAME ?? K_SERVICE };
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function toSocketUrl(companionUrl: string): string {
  return new URL(PATHS.socket, companionUrl.replace(/^http/, 'ws')).href;
}
