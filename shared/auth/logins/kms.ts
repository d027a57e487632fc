// Wraps data keys with a Cloud KMS key, whose bytes never leave KMS. Only this file knows the SDK; it is loaded at the
// first call.

import type { KeyManagementServiceClient } from '@google-cloud/kms';
import { deadline, orAbort } from '../../async.ts';
import { RpcError } from '../../errors.ts';
import type { KeyWrapper } from './envelope.ts';

type ClientOptions = NonNullable<ConstructorParameters<typeof KeyManagementServiceClient>[0]>;

export interface KmsOptions {
  /**
   * `projects/P/locations/L/keyRings/R/cryptoKeys/K`; KMS takes its primary version to wrap and finds the right one to
   * unwrap.
   */
  readonly keyName: string;
  /** Handed to the SDK's client: another endpoint, other credentials. */
  readonly clientOptions?: ClientOptions;
  readonly timeoutMs?: number;
}

const CALL_TIMEOUT_MS = 5_000;
/** gRPC codes. */
const INVALID_ARGUMENT = 3;

export function createKmsKeyWrapper({ keyName, clientOptions, timeoutMs = CALL_TIMEOUT_MS }: KmsOptions): KeyWrapper {
  let client: Promise<KeyManagementServiceClient> | undefined;

  /**
   * One call with a deadline and without the SDK's own retries. The SDK keeps a failure to authenticate for ever, hence
   * a new client after any failure.
   */
  const call = async (
    signal: AbortSignal,
    work: (client: KeyManagementServiceClient, options: object) => Promise<unknown>,
  ): Promise<Uint8Array> => {
    signal.throwIfAborted();
    client ??= connect(clientOptions, timeoutMs);
    const current = client;
    try {
      // Loading the SDK is not KMS's time.
      const connected = await orAbort(current, signal);
      const within = deadline(timeoutMs, signal);
      const options = { timeout: timeoutMs, signal: within, retry: { retryCodes: [] } };
      const answer = await orAbort(work(connected, options), within);
      if (answer instanceof Uint8Array && answer.length > 0) return answer;
      throw new Error('KMS answered without a value');
    } catch (error) {
      if (client === current) client = undefined;
      // Closing a client that failed to connect fails in the same way.
      current.then((connected) => connected.close()).catch(() => {});
      signal.throwIfAborted();
      // What KMS cannot open was changed, or belongs to another owner: that is no outage.
      if (codeOf(error) === INVALID_ARGUMENT) throw new Error('KMS refused the wrapped key', { cause: error });
      throw new RpcError('unavailable', { message: 'the key that seals logins cannot be reached', cause: error });
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
      // Only the configured key: a document must not be able to choose one.
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
  const client = new KeyManagementServiceClient(clientOptions);
  // Without this, missing credentials would surface as an unhandled rejection inside the SDK, which ends the process.
  if (clientOptions?.sslCreds === undefined) {
    await orAbort(client.auth.getClient(), deadline(timeoutMs));
  }
  return client;
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
