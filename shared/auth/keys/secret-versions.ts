// The versions of one secret in Google Secret Manager: list, access, add, disable. Only this file of the folder imports
// the SDK. Each call has a deadline and is not retried by the SDK.
import type { SecretManagerServiceClient } from '@google-cloud/secret-manager';
import { deadline, orAbort } from '../../async.ts';
import { CHANNEL_OPTIONS } from '../../grpc/grpc-client.ts';

export type SecretClientOptions = NonNullable<ConstructorParameters<typeof SecretManagerServiceClient>[0]>;

export interface SecretVersion {
  /** Full name, `projects/P/secrets/S/versions/N`. */
  readonly name: string;
  /** Changes with the state of the version. */
  readonly etag: string;
}

/** All methods reject with the SDK's error, whose `code` is a gRPC status. */
export interface SecretVersions {
  /** The enabled versions, newest first. */
  listEnabled(): Promise<SecretVersion[]>;
  access(name: string): Promise<Uint8Array>;
  /** Adds an enabled version and returns it. */
  add(payload: Uint8Array): Promise<SecretVersion>;
  /** Rejects with the status FAILED_PRECONDITION when the version has changed since `etag` was read. */
  disable(version: SecretVersion): Promise<void>;
  close(): void;
}

/** Number of enabled versions whose keys are valid, newest first; instances ignore older ones. */
export const VERSIONS_MAX = 50;
const PAGE_SIZE = 250;
const PAGES_MAX = 4;
const CALL_TIMEOUT_MS = 5000;

/** `secret` is its full name, `projects/P/secrets/S`. Loads the SDK. */
export async function connectSecret(
  secret: string,
  clientOptions: SecretClientOptions | undefined,
): Promise<SecretVersions> {
  const { SecretManagerServiceClient } = await import('@google-cloud/secret-manager');
  const client = new SecretManagerServiceClient({ ...CHANNEL_OPTIONS, ...clientOptions });
  // Without this, missing credentials would cause an unhandled rejection inside the SDK, which ends the process.
  if (clientOptions?.sslCreds === undefined) await orAbort(client.auth.getClient(), deadline(CALL_TIMEOUT_MS));
  const bounded = () => ({
    timeout: CALL_TIMEOUT_MS,
    signal: deadline(CALL_TIMEOUT_MS),
    retry: { retryCodes: [] },
    autoPaginate: false,
  });
  return {
    async listEnabled() {
      const enabled: SecretVersion[] = [];
      let pageToken = '';
      for (let page = 0; page < PAGES_MAX; page++) {
        const request = { parent: secret, filter: 'state:ENABLED', pageSize: PAGE_SIZE, pageToken };
        const [versions, , response] = await client.listSecretVersions(request, bounded());
        for (const { name, state, etag } of versions) {
          if (name && (state === 'ENABLED' || state === 1)) enabled.push({ name, etag: etag ?? '' });
        }
        pageToken = response.nextPageToken ?? '';
        if (pageToken === '') break;
      }
      return enabled.sort((a, b) => versionNumber(b.name) - versionNumber(a.name));
    },
    async access(name) {
      const [version] = await client.accessSecretVersion({ name }, bounded());
      const data = version.payload?.data ?? '';
      return typeof data === 'string' ? Buffer.from(data, 'base64') : data;
    },
    async add(payload) {
      const [version] = await client.addSecretVersion({ parent: secret, payload: { data: payload } }, bounded());
      return { name: version.name ?? '', etag: version.etag ?? '' };
    },
    async disable({ name, etag }) {
      await client.disableSecretVersion({ name, etag }, bounded());
    },
    close() {
      // close() of a client that could not connect rejects with the same error.
      client.close().catch(() => {});
    },
  };
}

/** The number at the end of a version's full name. */
export function versionNumber(name: string): number {
  return Number(name.slice(name.lastIndexOf('/') + 1));
}
