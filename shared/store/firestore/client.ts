// The five Firestore calls of the store, each with a deadline and a signal and without retries: if a commit were
// repeated after a lost response, its own success would look like a conflict.
import type { Bounds } from '../../async.ts';
import { type GrpcMethod, openGrpcChannel } from '../../grpc/grpc-channel.ts';
import { decodeBegin, decodeCommit, decodeDocument, decodeEmpty } from './decode.ts';
import { encodeBegin, encodeCommit, encodeGet, encodeQuery, encodeRollback } from './encode.ts';
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
  commit(
    writes: readonly WireWrite[],
    call: Bounds,
    transaction?: Transaction,
  ): Promise<readonly (WireTimestamp | undefined)[]>;
  query(query: WireQuery, call: Bounds): Promise<WireDocument[]>;
  begin(call: Bounds, retryOf?: Transaction): Promise<Transaction>;
  rollback(transaction: Transaction, call: Bounds): Promise<void>;
  close(): void;
}

const METHODS = {
  get: method('BatchGetDocuments', encodeGet, decodeDocument),
  commit: method('Commit', encodeCommit, decodeCommit),
  query: method('RunQuery', encodeQuery, decodeDocument),
  begin: method('BeginTransaction', encodeBegin, decodeBegin),
  rollback: method('Rollback', encodeRollback, decodeEmpty),
};

/** Imports gRPC and opens a channel. */
export async function openFirestoreClient(address: FirestoreAddress): Promise<FirestoreClient> {
  const { projectId, databaseId, emulatorHost } = address;
  const database = `projects/${projectId}/databases/${databaseId}`;
  const parent = `${database}/documents`;
  const channel = await openGrpcChannel({
    address: emulatorHost ?? 'firestore.googleapis.com:443',
    isPlain: emulatorHost !== undefined,
    headers: {
      // Both route to a database that is not `(default)`, as those of the SDK do.
      'google-cloud-resource-prefix': database,
      'x-goog-request-params': `database=${encodeURIComponent(database)}&parent=${encodeURIComponent(parent)}`,
      ...(emulatorHost === undefined ? {} : { authorization: 'Bearer owner' }),
    },
    options: { 'grpc-node.flow_control_window': 256 * 1024 },
  });
  return {
    nameOf: (collection, id) => `${parent}/${collection}/${id}`,
    async get(names, call, transaction) {
      const responses = await channel.call(METHODS.get, { database, names, transaction }, call);
      return new Map(
        responses.flatMap((document) => (document === undefined ? [] : [[document.name, document] as const])),
      );
    },
    async commit(writes, call, transaction) {
      const [times] = await channel.call(METHODS.commit, { database, writes, transaction }, call);
      return times ?? [];
    },
    async query(query, call) {
      const responses = await channel.call(METHODS.query, { parent, query }, call);
      return responses.filter((document) => document !== undefined);
    },
    async begin(call, retryOf) {
      const [transaction] = await channel.call(METHODS.begin, { database, retryOf }, call);
      if (transaction === undefined) throw new Error('Firestore began no transaction');
      return transaction;
    },
    async rollback(transaction, call) {
      await channel.call(METHODS.rollback, { database, transaction }, call);
    },
    close: () => channel.close(),
  };
}

function method<Request, Response>(
  name: string,
  encode: (request: Request) => Uint8Array,
  decode: (bytes: Uint8Array) => Response,
): GrpcMethod<Request, Response> {
  return { path: `/google.firestore.v1.Firestore/${name}`, encode, decode };
}
