// The validated configuration of a process; load-config.ts reads it from the environment.
import type { ProxyEnv } from 'node:http';
import type { Limit } from './values/limits.ts';
import type { ModelProvider } from './values/model-providers.ts';
import type { ModelFacts } from './values/read-values.ts';

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
  /** The deployed service and its revision, for Error Reporting. */
  readonly service: { readonly service: string; readonly version: string } | undefined;
  readonly limits: readonly Limit[];
  readonly dataDir: string;
  readonly store: 'embedded' | 'memory' | 'firestore';
  readonly bus: 'local' | 'pubsub';
  /** Key documents from the environment, or Secret Manager. */
  readonly keys:
    | { readonly source: 'environment'; readonly documents: readonly string[] }
    | { readonly source: 'secret-manager' };
  readonly projectId: string | undefined;
  /** Id of the Firestore database. */
  readonly database: string;
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
  /** Providers of the operator, with the wire of OpenAI, by name. */
  readonly modelProviders: ReadonlyMap<string, ModelProvider>;
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
  /**
   * Where the prompts of the jsonrpc function run. The platform takes the CPU of a function away once it has no open
   * request, so a turn there can end with its client.
   */
  readonly turnsRun: 'companion' | 'function';
  /** The public address of `/ws`, where this configuration names it. */
  readonly socketUrl: string | undefined;
  /** The sandbox service, and the credential of this process there; undefined: sandboxes run in this process. */
  readonly sandbox: SandboxAddress | undefined;
  /** OIDC tokens that the deployments function accepts. */
  readonly push: {
    readonly audience: string | undefined;
    readonly serviceAccount: string | undefined;
    /** Cloud Scheduler's account, where the deployments function sweeps. */
    readonly sweeper: string | undefined;
    /** The account of Cloud Monitoring's uptime checks. */
    readonly uptime: string | undefined;
    /** Cloud Run admits only these accounts, and replaces the signature of their tokens. */
    readonly isInvokerChecked: boolean;
  };
  /** Backends of `bff.proxy` by name; `internal` ones may have addresses that are not public. */
  readonly backends: ReadonlyMap<string, { readonly baseUrl: string; readonly internal: boolean }>;
  /** MCP servers registered by the operator, by name; `mcp.connect` with only the name connects one. */
  readonly mcpServers: ReadonlyMap<string, McpServer>;
  readonly logFormat: 'json' | 'pretty';
  /** The OpenTelemetry collector that spans are sent to; undefined: none are recorded. */
  readonly otlp: { readonly endpoint: string; readonly serviceName: string } | undefined;
  /** PATH, used to find bwrap. */
  readonly searchPath: string;
  /**
   * Tokens that a key may use per UTC day; undefined: unlimited. conversations/records/usage-ledger.ts states how
   * exactly the limit is kept.
   */
  readonly dailyTokens: number | undefined;
  /** Most bytes of messages that a key may store. */
  readonly storageBytesMax: number;
  /** Days for which a session without its own is kept after its last use; undefined: until it is deleted. */
  readonly retentionDays: number | undefined;
  /** Milliseconds. Configurable, so that tests need not wait for the defaults. */
  readonly turns: { readonly leaseMs: number; readonly heartbeatMs: number; readonly timeoutMs: number };
}

/** `audience`: of the ID tokens of this process's own service account. */
export type SandboxAddress = { readonly url: string } & ({ readonly token: string } | { readonly audience: string });

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

/** loadConfig has already refused a Google Cloud adapter without a project. */
export function projectOf(config: Config): string {
  if (config.projectId === undefined) throw new Error('GOOGLE_CLOUD_PROJECT is not set');
  return config.projectId;
}
