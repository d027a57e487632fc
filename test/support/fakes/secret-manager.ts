// A small Secret Manager on loopback with one secret, over real gRPC with the published .proto files. Implements what
// the gateway and its tests use: list versions (paged, filtered), access, add, and disable with an etag. No
// authorisation.
import { createRequire } from 'node:module';
import path from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

export interface FakeSecretManager {
  readonly port: number;
  /** Options for the real client library. */
  readonly clientOptions: {
    readonly apiEndpoint: string;
    readonly port: number;
    readonly sslCreds: grpc.ChannelCredentials;
  };
  /** Adds a version as `gcloud secrets versions add` does; answers its number. */
  add(payload: string | Uint8Array): number;
  setState(version: number, state: 'ENABLED' | 'DISABLED' | 'DESTROYED'): void;
  /**
   * `down`: UNAVAILABLE; `hang`: never answers; `quota`: RESOURCE_EXHAUSTED; `access`: lists, but refuses every access.
   */
  fault: 'none' | 'down' | 'hang' | 'quota' | 'access';
  readonly calls: { list: number; access: number; readonly accessed: string[] };
  stop(): void;
}

interface Version {
  readonly payload: Uint8Array;
  state: 'ENABLED' | 'DISABLED' | 'DESTROYED';
  etag: string;
}

interface ListRequest {
  readonly parent: string;
  readonly pageSize: number;
  readonly pageToken: string;
  readonly filter: string;
}

const FAULTS = {
  down: { code: grpc.status.UNAVAILABLE, details: 'outage' },
  quota: { code: grpc.status.RESOURCE_EXHAUSTED, details: 'quota exceeded' },
};

/** Starts on a free port. `pageSizeMax` below the client's page size forces paging. */
export async function startFakeSecretManager(options: {
  readonly secret: string;
  readonly pageSizeMax?: number;
}): Promise<FakeSecretManager> {
  const versions: Version[] = [];
  let changes = 0;
  const calls = { list: 0, access: 0, accessed: [] as string[] };
  const nameOf = (index: number): string => `${options.secret}/versions/${index + 1}`;
  const server = new grpc.Server();

  const list: grpc.handleUnaryCall<ListRequest, object> = (call, answer) => {
    calls.list++;
    if (fake.fault === 'hang') return;
    if (fake.fault === 'down' || fake.fault === 'quota') return answer(FAULTS[fake.fault]);
    const { parent, filter, pageToken, pageSize } = call.request;
    if (parent !== options.secret) return answer({ code: grpc.status.NOT_FOUND, details: 'no such secret' });
    // As the service does: newest first.
    const matching = versions
      .map(({ state, etag }, index) => ({ name: nameOf(index), state, etag }))
      .filter(({ state }) => filter !== 'state:ENABLED' || state === 'ENABLED')
      .reverse();
    const from = Number(pageToken || 0);
    const to = from + Math.min(pageSize || 100, options.pageSizeMax ?? 25_000);
    answer(null, {
      versions: matching.slice(from, to),
      nextPageToken: to < matching.length ? String(to) : '',
      totalSize: matching.length,
    });
  };

  const access: grpc.handleUnaryCall<{ readonly name: string }, object> = (call, answer) => {
    calls.access++;
    calls.accessed.push(call.request.name);
    if (fake.fault === 'hang') return;
    if (fake.fault === 'down' || fake.fault === 'quota') return answer(FAULTS[fake.fault]);
    if (fake.fault === 'access') return answer(FAULTS.down);
    const version = versions.find((_, index) => nameOf(index) === call.request.name);
    if (version === undefined) return answer({ code: grpc.status.NOT_FOUND, details: 'no such version' });
    if (version.state !== 'ENABLED') {
      return answer({ code: grpc.status.FAILED_PRECONDITION, details: `version is in ${version.state} state` });
    }
    answer(null, { name: call.request.name, payload: { data: version.payload } });
  };

  const add: grpc.handleUnaryCall<{ readonly payload: { readonly data: Uint8Array } }, object> = (call, answer) => {
    const number = fake.add(call.request.payload.data);
    answer(null, { name: nameOf(number - 1), state: 'ENABLED', etag: versions[number - 1]?.etag });
  };

  const disable: grpc.handleUnaryCall<{ readonly name: string; readonly etag: string }, object> = (call, answer) => {
    const index = versions.findIndex((_, at) => nameOf(at) === call.request.name);
    const version = versions[index];
    if (version === undefined) return answer({ code: grpc.status.NOT_FOUND, details: 'no such version' });
    if (call.request.etag !== '' && call.request.etag !== version.etag) {
      return answer({ code: grpc.status.FAILED_PRECONDITION, details: 'the etag is not the current one' });
    }
    fake.setState(index + 1, 'DISABLED');
    answer(null, { name: call.request.name, state: version.state, etag: version.etag });
  };

  server.addService(loadService(), {
    ListSecretVersions: list,
    AccessSecretVersion: access,
    AddSecretVersion: add,
    DisableSecretVersion: disable,
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });

  const fake: FakeSecretManager = {
    port,
    clientOptions: { apiEndpoint: '127.0.0.1', port, sslCreds: grpc.credentials.createInsecure() },
    fault: 'none',
    calls,
    add(payload) {
      versions.push({ payload: Buffer.from(payload), state: 'ENABLED', etag: `"${versions.length + 1}-0"` });
      return versions.length;
    },
    setState(number, state) {
      const version = versions[number - 1];
      if (version === undefined) throw new Error(`there is no version ${number}`);
      version.state = state;
      version.etag = `"${number}-${state}-${++changes}"`;
    },
    stop: () => server.forceShutdown(),
  };
  return fake;
}

function loadService(): grpc.ServiceDefinition {
  const require = createRequire(import.meta.url);
  const own = path.join(path.dirname(require.resolve('@google-cloud/secret-manager/package.json')), 'build', 'protos');
  const common = path.join(path.dirname(require.resolve('google-gax')), '..', 'protos');
  const loaded = loadSync('google/cloud/secretmanager/v1/service.proto', {
    includeDirs: [own, common],
    enums: String,
    defaults: true,
  });
  const service = loaded['google.cloud.secretmanager.v1.SecretManagerService'];
  if (service === undefined || 'format' in service) throw new Error('the service is not in the .proto files');
  return service;
}
