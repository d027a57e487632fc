// A small Cloud KMS on loopback with some keys, over real gRPC with the published .proto files. Encrypts and decrypts
// with AES-256-GCM and the additional data of the request. No authorisation.
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';
import path from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

export interface FakeKms {
  /** Options for the real client library. */
  readonly clientOptions: {
    readonly apiEndpoint: string;
    readonly port: number;
    readonly sslCreds: grpc.ChannelCredentials;
  };
  /** A new primary version; the older ones still decrypt. */
  rotate(key: string): void;
  /** `down`: UNAVAILABLE; `hang`: never answers; `denied`: PERMISSION_DENIED. */
  fault: 'none' | 'down' | 'hang' | 'denied';
  calls: number;
  /** What it was given to encrypt. */
  readonly plaintexts: Buffer[];
  stop(): void;
}

interface CryptRequest {
  readonly name: string;
  readonly plaintext: Buffer;
  readonly ciphertext: Buffer;
  readonly additionalAuthenticatedData: Buffer;
}

const FAULTS = {
  down: { code: grpc.status.UNAVAILABLE, details: 'outage' },
  denied: { code: grpc.status.PERMISSION_DENIED, details: 'permission denied' },
};

export async function startFakeKms(keys: readonly string[]): Promise<FakeKms> {
  const versions = new Map(keys.map((key) => [key, [randomBytes(32)]]));
  const server = new grpc.Server();

  const answering =
    (work: (request: CryptRequest, own: Buffer[]) => object): grpc.handleUnaryCall<CryptRequest, object> =>
    (call, answer) => {
      fake.calls++;
      if (fake.fault === 'hang') return;
      if (fake.fault !== 'none') return answer(FAULTS[fake.fault]);
      const own = versions.get(call.request.name);
      if (own === undefined) return answer({ code: grpc.status.NOT_FOUND, details: 'no such key' });
      try {
        answer(null, work(call.request, own));
      } catch {
        answer({ code: grpc.status.INVALID_ARGUMENT, details: 'Decryption failed: the ciphertext is invalid.' });
      }
    };

  const encrypt = answering(({ name, plaintext, additionalAuthenticatedData }, own) => {
    fake.plaintexts.push(plaintext);
    const key = own.at(-1) ?? randomBytes(32);
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(additionalAuthenticatedData);
    const body = Buffer.concat([cipher.update(plaintext), cipher.final()]);
    const ciphertext = Buffer.concat([Buffer.of(own.length), nonce, cipher.getAuthTag(), body]);
    return { name: `${name}/cryptoKeyVersions/${own.length}`, ciphertext };
  });

  const decrypt = answering(({ ciphertext, additionalAuthenticatedData }, own) => {
    const key = own[(ciphertext[0] ?? 0) - 1];
    if (key === undefined) throw new Error('no such version');
    const decipher = createDecipheriv('aes-256-gcm', key, ciphertext.subarray(1, 13));
    decipher.setAAD(additionalAuthenticatedData).setAuthTag(ciphertext.subarray(13, 29));
    return { plaintext: Buffer.concat([decipher.update(ciphertext.subarray(29)), decipher.final()]) };
  });

  server.addService(loadService(), { Encrypt: encrypt, Decrypt: decrypt });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  const fake: FakeKms = {
    clientOptions: { apiEndpoint: '127.0.0.1', port, sslCreds: grpc.credentials.createInsecure() },
    fault: 'none',
    calls: 0,
    plaintexts: [],
    rotate: (key) => void versions.get(key)?.push(randomBytes(32)),
    stop: () => server.forceShutdown(),
  };
  return fake;
}

function loadService(): grpc.ServiceDefinition {
  const require = createRequire(import.meta.url);
  const own = path.join(path.dirname(require.resolve('@google-cloud/kms/package.json')), 'build', 'protos');
  const common = path.join(path.dirname(require.resolve('google-gax')), '..', 'protos');
  const loaded = loadSync('google/cloud/kms/v1/service.proto', {
    includeDirs: [own, common],
    enums: String,
    defaults: true,
  });
  const service = loaded['google.cloud.kms.v1.KeyManagementService'];
  if (service === undefined || 'format' in service) throw new Error('the service is not in the .proto files');
  return service;
}
