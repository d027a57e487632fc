// Wraps data keys with a Cloud KMS key, whose bytes never leave KMS. Only this file imports the SDK, at the first
// call.

import type { KeyManagementServiceClient } from '@google-cloud/kms';
import { deadline, orAbort } from '../../async.ts';
import { RpcError } from '../../errors.ts';
import { CHANNEL_OPTIONS, createGrpcClient } from '../../grpc/grpc-client.ts';
import { GRPC, statusOf } from '../../grpc/grpc-status.ts';
import type { KeyWrapper } from './envelope.ts';

type ClientOptions = NonNullable<ConstructorParameters<typeof KeyManagementServiceClient>[0]>;

export interface KmsOptions {
  /**
   * `projects/P/locations/L/keyRings/R/cryptoKeys/K`. KMS encrypts with the primary version and decrypts with the
   * version that encrypted.
   */
  readonly keyName: string;
  /** Passed to the SDK's client, e.g. another endpoint or other credentials. */
  readonly clientOptions?: ClientOptions;
  readonly timeoutMs?: number;
}

const CALL_TIMEOUT_MS = 5_000;

export function createKmsKeyWrapper({ keyName, clientOptions, timeoutMs = CALL_TIMEOUT_MS }: KmsOptions): KeyWrapper {
  const grpc = createGrpcClient({
    open: () => connect(clientOptions, timeoutMs),
    close: (client) => client.close(),
  });

  /** One call with a deadline and without the SDK's own retries. */
  const call = async (
    signal: AbortSignal,
    work: (client: KeyManagementServiceClient, options: object) => Promise<unknown>,
  ): Promise<Uint8Array> => {
    signal.throwIfAborted();
    try {
      const answer = await grpc.run({ signal, timeoutMs }, (client, bounds) =>
        work(client, { timeout: timeoutMs, signal: bounds.signal, retry: { retryCodes: [] } }),
      );
      if (answer instanceof Uint8Array && answer.length > 0) return answer;
      throw new Error('KMS answered without a value');
    } catch (error) {
      signal.throwIfAborted();
      // The wrapped key or its `aad` was changed. This is no outage.
      if (statusOf(error) === GRPC.invalidArgument) throw new Error('KMS refused the wrapped key', { cause: error });
      throw new RpcError('unavailable', { message: 'the encryption key of logins cannot be reached', cause: error });
    }
  };

  return {
    async wrap(dataKey, aad, signal) {
      const wrapped = await call(signal, async (kms, options) => {
        const [answer] = await kms.encrypt(
          { name: keyName, plaintext: dataKey, additionalAuthenticatedData: aad },
          options,
        );
        return answer.ciphertext;
      });
      return { keyName, wrapped };
    },
    async unwrap(key, aad, signal) {
      // Only the configured key is used: a stored document must not choose the key.
      if (key.keyName !== keyName) return undefined;
      return call(signal, async (kms, options) => {
        const [answer] = await kms.decrypt(
          { name: keyName, ciphertext: key.wrapped, additionalAuthenticatedData: aad },
          options,
        );
        return answer.plaintext;
      });
    },
  };
}

async function connect(
  clientOptions: ClientOptions | undefined,
  timeoutMs: number,
): Promise<KeyManagementServiceClient> {
  const { KeyManagementServiceClient } = await import('@google-cloud/kms');
  const client = new KeyManagementServiceClient({ ...CHANNEL_OPTIONS, ...clientOptions });
  // Without this, missing credentials would cause an unhandled rejection inside the SDK, which ends the process.
  if (clientOptions?.sslCreds === undefined) {
    await orAbort(client.auth.getClient(), deadline(timeoutMs));
  }
  return client;
}
