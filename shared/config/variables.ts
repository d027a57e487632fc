// The environment variables, one row per variable. fields.ts and read-values.ts read their values; load-config.ts
// combines them.
import { z } from 'zod';
import { LOCAL_HOST, LOCAL_PORT } from '../protocol.ts';
import {
  account,
  accounts,
  encryptedUrl,
  executable,
  headerValue,
  host,
  logFormat,
  oneLine,
  port,
  proxyUrl,
  readableFile,
  readBy,
  sharedSecret,
  socketUrl,
  url,
} from './values/fields.ts';
import { parseLimits } from './values/limits.ts';
import { readMcpServers } from './values/mcp-servers.ts';
import { readModelProviders } from './values/model-providers.ts';
import {
  readBackends,
  readKeyDocument,
  readKeys,
  readModels,
  readOrigins,
  readWebhookSecrets,
} from './values/read-values.ts';

const milliseconds = z.coerce.number({ error: 'must be a number of milliseconds' }).int().min(100).max(3_600_000);
const hostAndPort = z
  .string()
  .regex(/^([\w.-]+|\[[0-9a-f:.]+\]):\d{1,5}$/i, 'must be host:port')
  .refine((text) => Number(text.slice(text.lastIndexOf(':') + 1)) <= 65_535, 'must be host:port');
/** One row per variable: the table of shared/README.md and the messages come from these names. */
export const Variables = z.object({
  PORT: port.default(LOCAL_PORT),
  HOST: host.default(LOCAL_HOST),
  GATEWAY_API_KEY: readBy(readKeys).optional(),
  GATEWAY_KEYS: readBy(readKeyDocument).optional(),
  GATEWAY_KEY_SOURCE: z.enum(['environment', 'secret-manager']).optional(),
  GATEWAY_LIMITS: readBy(parseLimits).prefault('100/minute,1000/hour,10000/day'),
  GATEWAY_DATA_DIR: oneLine.default('.data'),
  GATEWAY_DATABASE: z
    .string()
    .regex(
      /^(\(default\)|[a-z][a-z\d-]{2,61}[a-z\d])$/,
      'must be the id of a Firestore database such as gateway-restored',
    )
    .default('(default)'),
  GATEWAY_STORE: z.enum(['embedded', 'memory', 'firestore']).optional(),
  GATEWAY_BUS: z.enum(['local', 'pubsub']).optional(),
  GATEWAY_TOPIC: z
    .string()
    .regex(/^[A-Za-z][\w.~%+-]{2,254}$/, 'must be a Pub/Sub topic name')
    .default('gateway-events'),
  BFF_BASE_URL: url.optional(),
  BFF_BACKENDS: readBy(readBackends).optional(),
  MCP_SERVERS: readBy(readMcpServers).optional(),
  GATEWAY_LOG: logFormat.optional(),
  GATEWAY_DAILY_TOKENS: z.coerce.number({ error: 'must be a number of tokens' }).int().min(1).optional(),
  GATEWAY_STORAGE_MB: z.coerce
    .number({ error: 'must be a number of megabytes' })
    .int()
    .min(1)
    .max(1 << 30)
    .default(1_024),
  GATEWAY_RETENTION_DAYS: z.coerce
    .number({ error: 'must be a whole number of days, 1 to 3650' })
    .int()
    .min(1)
    .max(3_650)
    .optional(),
  GATEWAY_LEASE_MS: milliseconds.default(30_000),
  GATEWAY_HEARTBEAT_MS: milliseconds.default(10_000),
  GATEWAY_TURN_TIMEOUT_MS: milliseconds.default(600_000),
  ENGINE: z.enum(['direct', 'codex']).default('direct'),
  CODEX_BIN: executable.optional(),
  MODEL: z.string().optional(),
  MODEL_PROVIDERS: readBy(readModelProviders).optional(),
  MODELS: readBy(readModels).optional(),
  ANTHROPIC_API_KEY: headerValue.optional(),
  ANTHROPIC_BASE_URL: url.optional(),
  OPENAI_API_KEY: headerValue.optional(),
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
  GOOGLE_APPLICATION_CREDENTIALS: readableFile.optional(),
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
  TURNS: z.enum(['companion', 'function']).optional(),
  SOCKET_URL: socketUrl.optional(),
  COMPANION_AUDIENCE: oneLine.optional(),
  COMPANION_CALLER: account.optional(),
  SANDBOX_URL: encryptedUrl.optional(),
  SANDBOX_TOKEN: sharedSecret.optional(),
  SANDBOX_AUDIENCE: oneLine.optional(),
  SANDBOX_CALLERS: accounts.optional(),
  PUSH_AUDIENCE: oneLine.optional(),
  PUSH_SERVICE_ACCOUNT: account.optional(),
  SWEEP_SERVICE_ACCOUNT: account.optional(),
  UPTIME_SERVICE_ACCOUNT: account.optional(),
  PUSH_INVOKER_CHECK: z.enum(['iam', 'none']).default('none'),
  HTTP_PROXY: proxyUrl.optional(),
  HTTPS_PROXY: proxyUrl.optional(),
  NO_PROXY: oneLine.optional(),
  OTEL_EXPORTER_OTLP_ENDPOINT: url.optional(),
  OTEL_SERVICE_NAME: oneLine.optional(),
  K_SERVICE: z.string().optional(),
  K_REVISION: z.string().optional(),
  HOME: z.string().default('/'),
  PATH: z.string().default('/usr/local/bin:/usr/bin:/bin'),
});

export type Settings = z.output<typeof Variables>;
