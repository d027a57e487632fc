// The environment variables and their parsers, one row per variable. load-config.ts combines them.
import { accessSync, constants, readFileSync } from 'node:fs';
import { z } from 'zod';
import { LOCAL_HOST, LOCAL_PORT } from '../protocol.ts';
import type { ApiKey } from './key-document.ts';
import { parseKeyDocument } from './key-document.ts';
import { parseLimits } from './limits.ts';
import { modelIdIssue } from './model-id.ts';

const proxyUrl = z
  .string()
  .refine((text) => /^https?:\/\/\S+$/.test(text) && URL.canParse(text), 'must be an http(s) URL');
/** The HTTP clients of the gateway do not send credentials in a URL; they must be set as a key or a header. */
const url = proxyUrl.refine((text) => !hasCredentials(text), 'must be a URL without user and password');
/** Wraps a parser that throws as a schema; the message of its error becomes the line of the mistake. */
const readBy = <T>(read: (text: string) => T) =>
  z.string().transform((text, context) => {
    try {
      return read(text);
    } catch (error) {
      context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) });
      return z.NEVER;
    }
  });
const milliseconds = z.coerce.number({ error: 'must be a number of milliseconds' }).int().min(100).max(3_600_000);
const hostAndPort = z
  .string()
  .regex(/^([\w.-]+|\[[0-9a-f:.]+\]):\d{1,5}$/i, 'must be host:port')
  .refine((text) => Number(text.slice(text.lastIndexOf(':') + 1)) <= 65_535, 'must be host:port');
const host = z.string().regex(/^[\w.:%-]{1,253}$/, 'must be a host name or an IP address');
const oneLine = z.string().regex(/^\P{Cc}+$/u, 'must not contain control characters');
const account = z.string().regex(/^[^\s@]+@[^\s@]+$/, 'must be the e-mail address of a service account');
const isFile = (mode: number) => (path: string) => {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
};
/** The characters that a header value allows. */
const apiKey = z.string().regex(/^[\x21-\x7e]+$/, 'must be visible ASCII characters without spaces');

/** One row per variable: the table of shared/README.md and the messages come from these names. */
export const Variables = z.object({
  PORT: z.coerce.number({ error: 'must be a port number' }).int().min(0).max(65_535).default(LOCAL_PORT),
  HOST: host.default(LOCAL_HOST),
  GATEWAY_API_KEY: readBy(readKeys).optional(),
  GATEWAY_KEYS: readBy(readKeyDocument).optional(),
  GATEWAY_KEY_SOURCE: z.enum(['environment', 'secret-manager']).optional(),
  GATEWAY_LIMITS: readBy(parseLimits).prefault('100/minute,1000/hour,10000/day'),
  GATEWAY_DATA_DIR: oneLine.default('.data'),
  GATEWAY_STORE: z.enum(['embedded', 'memory', 'firestore']).optional(),
  GATEWAY_BUS: z.enum(['local', 'pubsub']).optional(),
  GATEWAY_TOPIC: z
    .string()
    .regex(/^[A-Za-z][\w.~%+-]{2,254}$/, 'must be a Pub/Sub topic name')
    .default('gateway-events'),
  BFF_BASE_URL: url.optional(),
  BFF_BACKENDS: readBy(readBackends).optional(),
  MCP_SERVERS: readBy(readMcpServers).optional(),
  GATEWAY_LOG: z.enum(['json', 'pretty']).optional(),
  GATEWAY_DAILY_TOKENS: z.coerce.number({ error: 'must be a number of tokens' }).int().min(1).optional(),
  GATEWAY_STORAGE_MB: z.coerce
    .number({ error: 'must be a number of megabytes' })
    .int()
    .min(1)
    .max(1 << 30)
    .default(1_024),
  GATEWAY_LEASE_MS: milliseconds.default(30_000),
  GATEWAY_HEARTBEAT_MS: milliseconds.default(10_000),
  GATEWAY_TURN_TIMEOUT_MS: milliseconds.default(600_000),
  ENGINE: z.enum(['direct', 'codex']).default('direct'),
  CODEX_BIN: z.string().refine(isFile(constants.X_OK), 'must be the path of an executable file').optional(),
  MODEL: z
    .string()
    .superRefine((model, context) => {
      const message = modelIdIssue(model);
      if (message !== undefined) context.addIssue({ code: 'custom', message });
    })
    .optional(),
  MODELS: readBy(readModels).optional(),
  ANTHROPIC_API_KEY: apiKey.optional(),
  ANTHROPIC_BASE_URL: url.optional(),
  OPENAI_API_KEY: apiKey.optional(),
  OPENAI_BASE_URL: url.optional(),
  GOOGLE_BASE_URL: url.optional(),
  CHATGPT_BASE_URL: url.optional(),
  KMS_KEY: z
    .string()
    .regex(
      /^projects\/[^/]+\/locations\/[^/]+\/keyRings\/[^/]+\/cryptoKeys\/[^/]+$/,
      'must be projects/P/locations/L/keyRings/R/cryptoKeys/K',
    )
    .optional(),
  GOOGLE_APPLICATION_CREDENTIALS: z.string().refine(isFile(constants.R_OK), 'the file cannot be read').optional(),
  GOOGLE_CLOUD_LOCATION: z
    .string()
    .regex(/^[a-z][a-z\d-]{0,62}$/, 'must be a location of Google Cloud such as us-central1')
    .default('us-central1'),
  GOOGLE_CLOUD_PROJECT: z
    .string()
    .regex(/^[a-z\d][a-z\d.:-]{0,62}$/, 'must be the id of a Google Cloud project')
    .optional(),
  FIRESTORE_EMULATOR_HOST: hostAndPort.optional(),
  PUBSUB_EMULATOR_HOST: hostAndPort.optional(),
  WEBHOOK_SECRETS: readBy(readWebhookSecrets).prefault(''),
  WEBHOOK_LIMITS: readBy(parseLimits).prefault('1000/minute'),
  ALLOWED_ORIGINS: readBy(readOrigins).prefault(''),
  COMPANION_URL: url.optional(),
  COMPANION_AUDIENCE: oneLine.optional(),
  COMPANION_CALLER: account.optional(),
  PUSH_AUDIENCE: oneLine.optional(),
  PUSH_SERVICE_ACCOUNT: account.optional(),
  HTTP_PROXY: proxyUrl.optional(),
  HTTPS_PROXY: proxyUrl.optional(),
  NO_PROXY: oneLine.optional(),
  K_SERVICE: z.string().optional(),
  HOME: z.string().default('/'),
  PATH: z.string().default('/usr/local/bin:/usr/bin:/bin'),
});

export type Settings = z.output<typeof Variables>;

function hasCredentials(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { username, password } = new URL(text);
  return username !== '' || password !== '';
}

/** Parses the key document at start, so that a mistake is reported at start. */
function readKeys(document: string): { readonly document: string; readonly keys: readonly ApiKey[] } {
  return { document, keys: parseKeyDocument(document) };
}

function readKeyDocument(text: string): ReturnType<typeof readKeys> {
  const document = inlineOrFile(text);
  // A bare value is refused: a file name without @ would become a key.
  if (document.trimStart().startsWith('{')) return readKeys(document);
  throw new Error(
    'must be the JSON document {"keys": [{"id": "...", "key": "..."}]}, inline or @file; one bare key is ' +
      'GATEWAY_API_KEY',
  );
}

/**
 * `@path` reads a file, anything else is the value. Removes white space around both, and the byte order mark of files
 * from Windows.
 */
function inlineOrFile(value: string): string {
  if (!value.startsWith('@')) return value;
  try {
    return readFileSync(value.slice(1), 'utf8').trim();
  } catch (error) {
    throw new Error(`the file cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
}

const Backends = z.record(
  z.string().regex(/^[\w-]{1,64}$/),
  z.strictObject({ base_url: url, internal: z.boolean().default(false) }),
);

function readBackends(value: string): readonly (readonly [string, { baseUrl: string; internal: boolean }])[] {
  const form =
    'must be JSON of the form {"name": {"base_url": "https://...", "internal": false}}, URLs without user and password';
  let document: unknown;
  try {
    document = JSON.parse(inlineOrFile(value));
  } catch {
    throw new Error(form);
  }
  const parsed = Backends.safeParse(document);
  if (!parsed.success) throw new Error(form);
  return Object.entries(parsed.data).map(([name, { base_url, internal }]) => [name, { baseUrl: base_url, internal }]);
}

const tokens = z.int().min(1).max(1_000_000_000);
const usdPerMillion = z.number().min(0).max(1_000_000);
const ModelFacts = z.strictObject({
  context_tokens: tokens.optional(),
  max_output_tokens: tokens.optional(),
  price: z
    .strictObject({
      input: usdPerMillion,
      output: usdPerMillion,
      cached_input: usdPerMillion.optional(),
      cache_write: usdPerMillion.optional(),
    })
    .optional(),
});
export type ModelFacts = z.output<typeof ModelFacts>;
const Models = z.record(z.string(), ModelFacts);

function readModels(text: string): ReadonlyMap<string, ModelFacts> {
  let document: unknown;
  try {
    document = JSON.parse(inlineOrFile(text));
  } catch (error) {
    throw new Error(error instanceof SyntaxError ? 'is not JSON' : String((error as Error).message));
  }
  const { data, error } = Models.safeParse(document);
  if (data === undefined) {
    const [issue] = error.issues;
    const form = '{"provider/model": {"context_tokens", "max_output_tokens", "price": {"input", "output"}}}';
    throw new Error(`${issue?.path.join('.') || 'the document'}: ${issue?.message}; the form is ${form}`);
  }
  for (const id of Object.keys(data)) {
    const problem = modelIdIssue(id);
    if (problem !== undefined) throw new Error(`${JSON.stringify(id.slice(0, 128))}: ${problem}`);
  }
  return new Map(Object.entries(data));
}

const absolutePath = z.string().regex(/^\/[^\0]*$/);
const McpServer = z.union([
  z.strictObject({
    command: z.string().min(1),
    args: z.array(z.string()).default([]),
    env: z.record(z.string(), z.string()).default({}),
    paths: z.array(absolutePath).default([]),
    network: z.boolean().default(false),
  }),
  z.strictObject({ url, headers: z.record(z.string(), z.string()).default({}) }),
]);
const McpServers = z.record(z.string().regex(/^[\w.-]{1,64}$/), McpServer);

/** Messages contain no values, because those may be credentials. */
function readMcpServers(text: string): ReadonlyMap<string, z.output<typeof McpServer>> {
  try {
    return new Map(Object.entries(McpServers.parse(JSON.parse(inlineOrFile(text)))));
  } catch {
    throw new Error(
      'must be JSON of the form {"name": {"command": "...", "args": [], "env": {}, "paths": ["/..."], ' +
        '"network": false}} or {"name": {"url": "https://...", "headers": {}}}, URLs without user and password',
    );
  }
}

function readWebhookSecrets(text: string): string[] {
  const secrets = text.split(/\s+/).filter((part) => part !== '');
  const wrong = secrets.findIndex((secret) => !/^whsec_[A-Za-z0-9+/]{2,}={0,2}$|^github:.+$/.test(secret));
  if (wrong !== -1) throw new Error(`entry ${wrong + 1} must be whsec_<base64> or github:<secret>`);
  return secrets;
}

function readOrigins(text: string): Set<string> {
  const origins = text.split(/[\s,]+/).filter((part) => part !== '');
  const wrong = origins.find((origin) => !URL.canParse(origin) || new URL(origin).origin !== origin);
  if (wrong !== undefined) throw new Error(`${wrong} must be an exact origin such as https://app.example.com`);
  return new Set(origins);
}
