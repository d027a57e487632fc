// Keys from Google Secret Manager: every ENABLED version of one secret is read by its number, never through `latest`
// (which is the most recently created version, even when disabled). cached-keys.ts decides when to read.
import type { Clock } from '../../clock.ts';
import type { ApiKey } from '../../config/values/key-document.ts';
import { type KeyDefaults, KeyDocumentError, parseKeyDocument } from '../../config/values/key-document.ts';
import { createGrpcClient } from '../../grpc/grpc-client.ts';
import { GRPC, statusOf } from '../../grpc/grpc-status.ts';
import { errorFields, type Logger } from '../../log.ts';
import { createCachedKeys, type KeyReading } from './cached-keys.ts';
import type { Keys } from './keys.ts';
import { connectSecret, type SecretClientOptions, VERSIONS_MAX } from './secret-versions.ts';

export interface SecretManagerKeysOptions {
  readonly projectId: string;
  /** Default `gateway-api-key`. */
  readonly secretId?: string;
  readonly clock: Pick<Clock, 'monotonic'>;
  readonly log: Logger;
  readonly defaults?: KeyDefaults;
  /** Passed to the SDK's client, e.g. another endpoint or other credentials. */
  readonly clientOptions?: SecretClientOptions;
}

/** Longer than the deadline of each call of secret-versions.ts; a list may take several. */
const BOUNDS = { timeoutMs: 10_000 };
/** gRPC statuses of a version that was disabled, destroyed or deleted between the list and the access. */
const GONE: ReadonlySet<number> = new Set([GRPC.notFound, GRPC.failedPrecondition]);

/** Keys of the secret's enabled versions, cached by cached-keys.ts. The SDK is loaded at the first call. */
export function createSecretManagerKeys(options: SecretManagerKeysOptions): Keys {
  const { clock, log } = options;
  const secret = `projects/${options.projectId}/secrets/${options.secretId ?? 'gateway-api-key'}`;
  // Keys by version; undefined: the version is no key document. The payload of a version never changes, so it is read
  // once.
  const seen = new Map<string, readonly ApiKey[] | undefined>();
  const grpc = createGrpcClient({
    open: () => connectSecret(secret, options.clientOptions),
    close: async (client) => client.close(),
  });

  const accessUnseen = async (version: string): Promise<'read' | 'gone' | 'failed'> => {
    if (seen.has(version)) return 'read';
    try {
      const payload = await grpc.run(BOUNDS, (client) => client.access(version));
      seen.set(version, readPayload(payload, version, options.defaults, log));
      return 'read';
    } catch (error) {
      const status = statusOf(error);
      if (status !== undefined && GONE.has(status)) return 'gone';
      log.error('a key version could not be accessed', { version, ...errorFields(error) });
      return 'failed';
    }
  };

  const read = async (): Promise<KeyReading> => {
    const enabled = (await grpc.run(BOUNDS, (client) => client.listEnabled())).map(({ name }) => name);
    if (enabled.length >= VERSIONS_MAX) {
      const isOver = enabled.length > VERSIONS_MAX;
      log.warn(isOver ? 'too many enabled key versions' : 'all usable key versions are enabled', {
        secret,
        used: VERSIONS_MAX,
      });
    }
    if (enabled.length === 0) log.error('the secret has no enabled version: no API key is valid', { secret });
    const versions = enabled.slice(0, VERSIONS_MAX);
    for (const version of seen.keys()) if (!versions.includes(version)) seen.delete(version);
    const outcomes = await Promise.all(versions.map(accessUnseen));
    // Newest first: of two versions with the same key, the newer one is used.
    return { keys: versions.flatMap((version) => seen.get(version) ?? []), complete: !outcomes.includes('failed') };
  };

  return createCachedKeys({ read, clock, log });
}

function readPayload(
  payload: Uint8Array,
  version: string,
  defaults: KeyDefaults | undefined,
  log: Logger,
): readonly ApiKey[] | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(payload);
    return parseKeyDocument(text, defaults, (message) => log.warn(message, { version }));
  } catch (error) {
    // One malformed version must not disable the others. Only messages without key material are logged.
    const reason = error instanceof KeyDocumentError ? error.message : 'the payload is not UTF-8';
    log.error('a key version is malformed and ignored', { version, reason });
    return undefined;
  }
}
