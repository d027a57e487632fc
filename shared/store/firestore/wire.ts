// Firestore's wire types (google.firestore.v1) as the SDK declares them; types only. Integers of 64 bits arrive as
// strings.
import type { FirestoreClient as Client } from '@google-cloud/firestore-api/client_v1';

export type WireWrite = NonNullable<NonNullable<Parameters<Client['commit']>[0]['writes']>[number]>;
export type WireQuery = NonNullable<NonNullable<Parameters<Client['runQuery']>[0]>['structuredQuery']>;
export type WireDocument = NonNullable<WireWrite['update']>;
export type WireFields = NonNullable<WireDocument['fields']>;
export type WireValue = WireFields[string];
export type WireTimestamp = NonNullable<WireDocument['updateTime']>;
/** Token of a transaction. */
export type Transaction = Uint8Array | string;
