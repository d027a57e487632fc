// A gRPC channel to one of Google's APIs without the API's SDK. Every SDK imports google-gax, which takes longer to
// load than everything else that an instance needs for its first answer. Messages are encoded by the methods. Every
// call has a deadline and a signal, and no retries.
import type { Bounds } from '../async.ts';
import { CHANNEL_OPTIONS } from './grpc-client.ts';

/** A unary or server-streaming method. */
export interface GrpcMethod<Request, Response> {
  /** `/package.Service/Method` */
  readonly path: string;
  readonly encode: (request: Request) => Uint8Array;
  readonly decode: (bytes: Uint8Array) => Response;
}

export interface GrpcChannelOptions {
  /** `host:port` */
  readonly address: string;
  /** Of an emulator: without TLS and credentials. */
  readonly isPlain: boolean;
  /** Metadata of every call. */
  readonly headers: Readonly<Record<string, string>>;
  /** Further options of gRPC. */
  readonly options?: Readonly<Record<string, string | number>>;
}

export interface GrpcChannel {
  /** Resolves to all responses, one of a unary method. Rejects with an Error whose `code` is the gRPC status. */
  call<Request, Response>(method: GrpcMethod<Request, Response>, request: Request, bounds: Bounds): Promise<Response[]>;
  close(): void;
}

const SCOPES = 'https://www.googleapis.com/auth/cloud-platform';

/** Imports gRPC and begins to connect. Rejects when credentials are needed and there are none. */
export async function openGrpcChannel(channel: GrpcChannelOptions): Promise<GrpcChannel> {
  const [{ Client, Metadata, credentials }, auth] = await Promise.all([
    import('@grpc/grpc-js'),
    channel.isPlain ? undefined : createAuth(),
  ]);
  const toMetadata = (fields: Iterable<[string, string]>) => {
    const metadata = new Metadata();
    for (const [name, value] of fields) metadata.set(name, value);
    return metadata;
  };
  const open =
    auth === undefined
      ? credentials.createInsecure()
      : credentials.combineChannelCredentials(
          credentials.createSsl(),
          credentials.createFromMetadataGenerator(({ service_url: url }, done) => {
            auth.getRequestHeaders(url).then((headers) => done(null, toMetadata(headers)), done);
          }),
        );
  const client = new Client(channel.address, open, {
    ...CHANNEL_OPTIONS,
    'grpc.max_receive_message_length': -1,
    'grpc.max_send_message_length': -1,
    ...channel.options,
  });
  // Connects while the credentials are read.
  client.getChannel().getConnectivityState(true);
  try {
    await auth?.getClient();
  } catch (error) {
    // An open channel connects again and again, and every call opens one until there are credentials.
    client.close();
    throw error;
  }
  const metadata = toMetadata(Object.entries(channel.headers));

  return {
    call({ path, encode, decode }, request, { signal, timeoutMs }) {
      return new Promise((resolve, reject) => {
        signal.throwIfAborted();
        const options = { deadline: Date.now() + timeoutMs };
        const stream = client.makeServerStreamRequest(
          path,
          toBuffer,
          decode,
          encode(request),
          metadata.clone(),
          options,
        );
        const onAbort = (): void => stream.cancel();
        const settle = (done: () => void): void => {
          signal.removeEventListener('abort', onAbort);
          done();
        };
        signal.addEventListener('abort', onAbort, { once: true });
        const responses: ReturnType<typeof decode>[] = [];
        stream.on('data', (response: ReturnType<typeof decode>) => responses.push(response));
        stream.on('end', () => settle(() => resolve(responses)));
        stream.on('error', (error: Error) => settle(() => reject(error)));
      });
    },
    close: () => client.close(),
  };
}

function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Application default credentials, as the SDKs use them. */
async function createAuth() {
  const { GoogleAuth } = await import('google-auth-library');
  const auth = new GoogleAuth({ scopes: SCOPES });
  // The key of a service account signs its tokens itself.
  auth.useJWTAccessWithScope = true;
  return auth;
}
