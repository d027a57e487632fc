// Reads and validates the environment once, with one line per mistake. No other module reads process.env, except the
// functions' entry point, which must not load this module for a health probe.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import type { ProxyEnv } from 'node:http';
import path from 'node:path';
import { LOCAL_KEY } from '../protocol.ts';
import { trimEnvironment } from './environment.ts';
import type { Limit } from './limits.ts';
import { isLoopback } from './loopback.ts';
import { toProxy } from './proxy.ts';
import { findMisspelt } from './spelling.ts';
import { type ModelFacts, type Settings, Variables } from './variables.ts';

/** The validated configuration. */
export interface Config {
  /** Warnings for the log at start: variables that look misspelt. */
  readonly warnings: readonly string[];
  /** Proxy for calls to providers and checks of logins. */
  readonly proxy: ProxyEnv | undefined;
  readonly host: string;
  readonly port: number;
  /** Whether the process runs as a deployed function or service (K_SERVICE is set by Cloud Run). */
  readonly deployed: boolean;
  readonly limits: readonly Limit[];
  readonly dataDir: string;
  readonly store: 'embedded' | 'memory' | 'firestore';
  readonly bus: 'local' | 'pubsub';
  /** Key documents from the environment, or Secret Manager. */
  readonly keys:
    | { readonly source: 'environment'; readonly documents: readonly string[] }
    | { readonly source: 'secret-manager' };
  readonly projectId: string | undefined;
  /** `host:port` of each emulator in use. */
  readonly emulators: { readonly firestore: string | undefined; readonly pubsub: string | undefined };
  readonly topic: string;
  readonly model: string | undefined;
  /** Properties of models from the variable MODELS, by `provider/model`; prices in USD per million tokens. */
  readonly models: ReadonlyMap<string, ModelFacts>;
  /** `codex`: prompts without a model are answered by the Codex agent. */
  readonly engine: 'direct' | 'codex';
  /** Path of the native Codex program; undefined: the installed package's. */
  readonly codexProgram: string | undefined;
  readonly providers: {
    readonly anthropic?: { readonly apiKey: string; readonly baseUrl?: string };
    readonly openai?: { readonly apiKey: string; readonly baseUrl?: string };
    readonly google?: { readonly project: string; readonly location: string };
  };
  /** Base URLs of the providers' APIs, for checks of logins and for calls with their tokens. */
  readonly providerUrls: Readonly<Record<keyof typeof PROVIDER_URLS, string>>;
  /** Cloud KMS key that encrypts the credentials of logins; undefined: a local key, or no logins in a deployment. */
  readonly kmsKey: string | undefined;
  /** `whsec_...` and `github:...`. */
  readonly webhookSecrets: readonly string[];
  /**
   * Limits of each secret. Higher than those of keys, because senders of signed webhooks do not repeat a refused
   * delivery.
   */
  readonly webhookLimits: readonly Limit[];
  readonly allowedOrigins: ReadonlySet<string>;
  /**
   * The companion service: the URL to which the jsonrpc function forwards calls that need a process (undefined: no
   * companion), the audience of the ID tokens sent with them, and the service account whose tokens the companion
   * accepts.
   */
  readonly companion: {
    readonly url: string | undefined;
    readonly audience: string | undefined;
    readonly caller: string | undefined;
  };
  /** Audience and service account of the OIDC tokens that the Pub/Sub push endpoint and the sweeper accept. */
  readonly push: { readonly audience: string | undefined; readonly serviceAccount: string | undefined };
  /** Backends of `bff.proxy` by name; `internal` ones may have addresses that are not public. */
  readonly backends: ReadonlyMap<string, { readonly baseUrl: string; readonly internal: boolean }>;
  /** MCP servers registered by the operator, by name; `mcp.connect` with only the name connects one. */
  readonly mcpServers: ReadonlyMap<string, McpServer>;
  readonly logFormat: 'json' | 'pretty';
  /** PATH, used to find bwrap. */
  readonly searchPath: string;
  /**
   * Tokens that a key may use per UTC day; undefined: unlimited. conversations/usage-ledger.ts states how exact it is.
   */
  readonly dailyTokens: number | undefined;
  /** Most bytes of messages that a key may store. */
  readonly storageBytesMax: number;
  /** Milliseconds. Configurable, so that tests need not wait for the defaults. */
  readonly turns: { readonly leaseMs: number; readonly heartbeatMs: number; readonly timeoutMs: number };
}

/** `paths` are mounted read-only in the sandbox. A server with `env` or `network` gets its own home directory. */
export type McpServer =
  | {
      readonly command: string;
      readonly args: readonly string[];
      readonly env: Readonly<Record<string, string>>;
      readonly paths: readonly string[];
      readonly network: boolean;
    }
  | { readonly url: string; readonly headers: Readonly<Record<string, string>> };

/** `google`: the Gemini API, which accepts API keys; `chatgpt`: the backend that accepts access tokens of ChatGPT. */
export const PROVIDER_URLS = {
  anthropic: 'https://api.anthropic.com',
  openai: 'https://api.openai.com',
  google: 'https://generativelanguage.googleapis.com',
  chatgpt: 'https://chatgpt.com/backend-api',
} as const;
/**
 * Path of the application default credentials that `gcloud auth application-default login` writes, relative to HOME.
 */
const GCLOUD_LOGIN = '.config/gcloud/application_default_credentials.json';
const LINE_CHARS_MAX = 300;

/** All mistakes of an environment at once. */
export class ConfigError extends Error {
  readonly problems: readonly string[];
  constructor(problems: readonly string[], warnings: readonly string[] = []) {
    super(`configuration is not valid:\n${[...problems, ...warnings].map((problem) => `  ${problem}`).join('\n')}`);
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads and validates an environment. Throws ConfigError with one line per mistake; no line contains the value of a
 * secret.
 */
export function loadConfig(env: Environment): Config {
  // An empty variable counts as unset, because docker and CI settings pass unset variables as empty ones.
  const given = Object.fromEntries(
    Object.entries(trimEnvironment({ ...env })).filter(([, value]) => value !== undefined && value !== ''),
  );
  // Proxy variables may be in lower case by convention; lower case has priority.
  for (const name of ['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY']) {
    const small = given[name.toLowerCase()];
    if (small !== undefined) given[name] = small;
  }
  const warnings = findMisspelt(Object.keys(given), Object.keys(Variables.shape));
  const parsed = Variables.safeParse(given);
  const wrong = new Map(parsed.error?.issues.map(({ path, message }) => [String(path[0]), message]));
  const problems = [...wrong].map(([name, message]) => `${name}: ${toLine(message)}`);
  // Replaces invalid variables by their defaults, so that the rules below also run and one start reports every mistake.
  const settings =
    parsed.data ?? Variables.parse(Object.fromEntries(Object.entries(given).filter(([name]) => !wrong.has(name))));
  const onEmulator = settings.FIRESTORE_EMULATOR_HOST !== undefined || settings.PUBSUB_EMULATOR_HOST !== undefined;
  const projectId = settings.GOOGLE_CLOUD_PROJECT ?? (onEmulator ? 'demo-gateway' : undefined);
  const inCloud = settings.GOOGLE_CLOUD_PROJECT !== undefined && !onEmulator;
  const config: Config = {
    host: settings.HOST,
    port: settings.PORT,
    deployed: settings.K_SERVICE !== undefined,
    limits: settings.GATEWAY_LIMITS,
    dataDir: settings.GATEWAY_DATA_DIR,
    store: settings.GATEWAY_STORE ?? (settings.FIRESTORE_EMULATOR_HOST || inCloud ? 'firestore' : 'embedded'),
    bus: settings.GATEWAY_BUS ?? (settings.PUBSUB_EMULATOR_HOST || inCloud ? 'pubsub' : 'local'),
    keys: chooseKeys(settings, inCloud, problems),
    projectId,
    emulators: { firestore: settings.FIRESTORE_EMULATOR_HOST, pubsub: settings.PUBSUB_EMULATOR_HOST },
    topic: settings.GATEWAY_TOPIC,
    model: settings.MODEL,
    models: settings.MODELS ?? new Map(),
    engine: settings.ENGINE,
    codexProgram: settings.CODEX_BIN,
    providers: readProviders(settings, inCloud),
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
    push: { audience: settings.PUSH_AUDIENCE, serviceAccount: settings.PUSH_SERVICE_ACCOUNT },
    backends: new Map([
      ...(settings.BFF_BACKENDS ?? []),
      // The operator configured this address for the backend, so it may be internal.
      ...(settings.BFF_BASE_URL === undefined
        ? []
        : [['default', { baseUrl: settings.BFF_BASE_URL, internal: true }] as const]),
    ]),
    mcpServers: settings.MCP_SERVERS ?? new Map(),
    logFormat: settings.GATEWAY_LOG ?? (process.stdout.isTTY && settings.K_SERVICE === undefined ? 'pretty' : 'json'),
    dailyTokens: settings.GATEWAY_DAILY_TOKENS,
    storageBytesMax: settings.GATEWAY_STORAGE_MB * 2 ** 20,
    warnings,
    proxy: toProxy(settings.HTTP_PROXY, settings.HTTPS_PROXY, settings.NO_PROXY),
    searchPath: settings.PATH,
    turns: {
      leaseMs: settings.GATEWAY_LEASE_MS,
      heartbeatMs: settings.GATEWAY_HEARTBEAT_MS,
      timeoutMs: settings.GATEWAY_TURN_TIMEOUT_MS,
    },
  };
  if ((config.store === 'firestore' || config.bus === 'pubsub') && projectId === undefined) {
    problems.push('GOOGLE_CLOUD_PROJECT: must be set for Firestore or Pub/Sub');
  }
  if (config.turns.heartbeatMs * 2 > config.turns.leaseMs) {
    problems.push('GATEWAY_HEARTBEAT_MS: must be at most half of GATEWAY_LEASE_MS');
  }
  if (problems.length > 0) throw new ConfigError(problems, warnings);
  return config;
}

/** Limits a message to one line of bounded length, because messages may quote values. */
function toLine(message: string): string {
  const line = message.replaceAll(/[\p{C}\p{Zl}\p{Zp}]+/gu, ' ');
  return line.length > LINE_CHARS_MAX ? `${line.slice(0, LINE_CHARS_MAX)}...` : line;
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

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
