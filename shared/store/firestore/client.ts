// The five Firestore calls of the store, each with a deadline and a signal and without retries: if a commit were
// repeated after a lost response, its own success would look like a conflict. Uses the SDK's generated client, because
// WriteBatch and Transaction retry; its import also makes a cold start a fifth shorter.
import type { CancellableStream } from 'google-gax';
import type { Bounds } from '../../async.ts';
import { CHANNEL_OPTIONS } from '../../grpc-client.ts';
import type { Transaction, WireDocument, WireQuery, WireTimestamp, WireWrite } from './wire.ts';

export interface FirestoreAddress {
  readonly projectId: string;
  readonly databaseId: string;
  /** `host:port` of an emulator; undefined: the cloud, with application default credentials. */
  readonly emulatorHost: string | undefined;
}

export interface FirestoreClient {
  /** `projects/P/databases/D/documents/collection/id` */
  nameOf(collection: string, id: string): string;
  /** Found documents by name; absent ones are left out. */
  get(names: readonly string[], call: Bounds, transaction?: Transaction): Promise<Map<string, WireDocument>>;
  /** Update times of the writes in order. */
  commit(writes: WireWrite[], call: Bounds, transaction?: Transaction): Promise<(WireTimestamp | null | undefined)[]>;
  query(query: WireQuery, call: Bounds): Promise<WireDocument[]>;
  begin(call: Bounds, retryOf?: Transaction): Promise<Transaction>;
  rollback(transaction: Transaction, call: Bounds): Promise<void>;
  close(): Promise<void>;
}

/** Imports the SDK and creates a channel, which connects at the first call. */
export async function openFirestoreClient(address: FirestoreAddress): Promise<FirestoreClient> {
  const { FirestoreClient } = await import('@google-cloud/firestore-api/client_v1');
  const client = new FirestoreClient({
    projectId: address.projectId,
    ...CHANNEL_OPTIONS,
    'grpc-node.flow_control_window': 256 * 1024,
    ...(address.emulatorHost === undefined ? {} : await toEmulator(address.emulatorHost)),
  });
  const database = `projects/${address.projectId}/databases/${address.databaseId}`;
  const parent = `${database}/documents`;
  const options = (call: Bounds) => ({
    timeout: call.timeoutMs,
    retry: null,
    retryRequestOptions: { retries: 0, noResponseRetries: 0 },
    signal: call.signal,
    otherArgs: {
      headers: {
        // Routes to a database that is not `(default)`, as the SDK's own client does.
        'google-cloud-resource-prefix': database,
        ...(address.emulatorHost === undefined ? {} : { Authorization: 'Bearer owner' }),
      },
    },
  });
  return {
    nameOf: (collection, id) => `${parent}/${collection}/${id}`,
    async get(names, call, transaction) {
      const found = new Map<string, WireDocument>();
      const request = { database, documents: [...names], ...(transaction === undefined ? {} : { transaction }) };
      const stream = client.batchGetDocuments(request, options(call));
      await drain<{ found?: WireDocument | null }>(stream, call.signal, ({ found: document }) => {
        if (document?.name != null) found.set(document.name, document);
      });
      return found;
    },
    async commit(writes, call, transaction) {
      const request = { database, writes, ...(transaction === undefined ? {} : { transaction }) };
      const [response] = await client.commit(request, options(call));
      return (response.writeResults ?? []).map((result) => result.updateTime ?? response.commitTime);
    },
    async query(query, call) {
      const documents: WireDocument[] = [];
      const stream = client.runQuery({ parent, structuredQuery: query }, options(call));
      await drain<{ document?: WireDocument | null }>(stream, call.signal, ({ document }) => {
        if (document != null) documents.push(document);
      });
      return documents;
    },
    async begin(call, retryOf) {
      const readWrite = retryOf === undefined ? {} : { retryTransaction: retryOf };
      const [response] = await client.beginTransaction({ database, options: { readWrite } }, options(call));
      return response.transaction ?? '';
    },
    async rollback(transaction, call) {
      await client.rollback({ database, transaction }, options(call));
    },
    close: () => client.close(),
  };
}

function drain<Message>(
  stream: CancellableStream,
  signal: AbortSignal,
  take: (message: Message) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => stream.cancel();
    signal.addEventListener('abort', onAbort, { once: true });
    stream.on('data', take);
    stream.on('end', () => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    });
    stream.on('error', (error) => {
      signal.removeEventListener('abort', onAbort);
      reject(error);
    });
  });
}

async function toEmulator(host: string) {
  const { grpc } = await import('google-gax');
  const url = new URL(`http://${host}`);
  return {
    servicePath: url.hostname,
    port: Number(url.port),
    sslCreds: grpc.credentials.createInsecure(),
    // Otherwise the SDK loads credentials, also over the network, to read their universe domain.
    clientOptions: { universeDomain: 'googleapis.com' },
  };
}
