// The versions of one secret in Google Secret Manager: list, access, add, disable. Each call has a deadline and is not
// retried.
import { deadline, orAbort } from '../../async.ts';
import { type GrpcMethod, openGrpcChannel } from '../../grpc-channel.ts';
import { accessVersion, addVersion, disableVersion, listVersions } from './secret-messages.ts';

export interface SecretClientOptions {
  /** `host:port` of another server, which has neither TLS nor credentials. */
  readonly address?: string;
}

export interface SecretVersion {
  /** Full name, `projects/P/secrets/S/versions/N`. */
  readonly name: string;
  /** Changes with the state of the version. */
  readonly etag: string;
}

/** All methods reject with gRPC's error, whose `code` is a gRPC status. */
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
const ADDRESS = 'secretmanager.googleapis.com:443';

/** `secret` is its full name, `projects/P/secrets/S`. Loads gRPC. Rejects when there are no credentials. */
export async function connectSecret(secret: string, { address }: SecretClientOptions = {}): Promise<SecretVersions> {
  const opening = openGrpcChannel({ address: address ?? ADDRESS, isPlain: address !== undefined, headers: {} });
  const channel = await orAbort(opening, deadline(CALL_TIMEOUT_MS)).catch((error: unknown) => {
    // Credentials that arrive late would leave a connection behind.
    opening.then((late) => late.close()).catch(() => {});
    throw error;
  });
  const call = async <Request, Response>(
    method: GrpcMethod<Request, Response>,
    request: Request,
  ): Promise<Response> => {
    const bounds = { signal: deadline(CALL_TIMEOUT_MS), timeoutMs: CALL_TIMEOUT_MS };
    const [response] = await channel.call(method, request, bounds);
    if (response === undefined) throw new Error('Secret Manager answered without a message');
    return response;
  };
  return {
    async listEnabled() {
      const enabled: SecretVersion[] = [];
      let pageToken = '';
      for (let page = 0; page < PAGES_MAX; page++) {
        const { versions, nextPageToken } = await call(listVersions, {
          parent: secret,
          pageSize: PAGE_SIZE,
          pageToken,
        });
        for (const { isEnabled, ...version } of versions) if (isEnabled && version.name !== '') enabled.push(version);
        pageToken = nextPageToken;
        if (pageToken === '') break;
      }
      return enabled.sort((a, b) => versionNumber(b.name) - versionNumber(a.name));
    },
    access: (name) => call(accessVersion, { name }),
    async add(payload) {
      const { name, etag } = await call(addVersion, { parent: secret, payload });
      return { name, etag };
    },
    async disable({ name, etag }) {
      await call(disableVersion, { name, etag });
    },
    close: () => channel.close(),
  };
}

/** The number at the end of a version's full name. */
export function versionNumber(name: string): number {
  return Number(name.slice(name.lastIndexOf('/') + 1));
}
