// Reads and validates the environment once, with one line per mistake. No other module reads process.env, except the
// functions' entry point, which must not load this module for a health probe.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import type { ProxyEnv } from 'node:http';
import path from 'node:path';
import { LOCAL_KEY, PATHS } from '../protocol.ts';
import type { Environment } from './environment.ts';
import type { Limit } from './limits.ts';
import { isLoopback } from './loopback.ts';
import { toProxy } from './proxy.ts';
import { ConfigError, readVariables } from './read-variables.ts';
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
  /** The public address of `/ws`, where this configuration names it. */
  readonly socketUrl: string | undefined;
  /** The sandbox service, and what this process proves its identity with there; undefined: sandboxes run here. */
  readonly sandbox: SandboxAddress | undefined;
  /** Whose OIDC tokens the Pub/Sub push endpoint and the sweeper accept. */
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

/** `audience`: of the ID tokens of this process's own service account. */
export type SandboxAddress = { readonly url: string } & ({ readonly token: string } | { readonly audience: string });

/** `paths` are shown read-only inside the sandbox; with `env` or `network` the server gets a home of its own. */
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
    socketUrl: settings.SOCKET_URL ?? (settings.COMPANION_URL && toSocketUrl(settings.COMPANION_URL)),
    sandbox: readSandbox(settings, problems),
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

/** Where keys come from; adds to `problems` when the gateway would be open or without keys. */
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

function toSocketUrl(companionUrl: string): string {
  return new URL(PATHS.socket, companionUrl.replace(/^http/, 'ws')).href;
}
