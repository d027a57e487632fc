// The messages of google.firestore.v1 that the store uses, without fields that it never reads or writes. A document is
// the envelope `{data, expire_at}`: `data` is one map field, so that one index exemption covers everything that no
// query uses.
import type { Data, Value } from '../store.ts';

export interface WireTimestamp {
  readonly seconds: number;
  readonly nanos: number;
}

/** What is stored of a document. */
export interface WireFields {
  readonly data?: Data | undefined;
  readonly expireAt?: WireTimestamp | undefined;
}

export interface WireDocument extends WireFields {
  /** `projects/P/databases/D/documents/collection/id` */
  readonly name: string;
  readonly updateTime: WireTimestamp | undefined;
}

export interface WireTransform {
  readonly fieldPath: string;
  readonly append?: readonly string[];
  readonly remove?: readonly string[];
}

export type WritePrecondition = { readonly exists: boolean } | { readonly updateTime: WireTimestamp };

export interface WireWrite {
  /** The full name of the document. */
  readonly name: string;
  /** Undefined: the document is deleted. */
  readonly fields: WireFields | undefined;
  /** The paths of the fields that are written; undefined: the whole document. */
  readonly paths?: readonly string[] | undefined;
  readonly transforms?: readonly WireTransform[];
  readonly precondition?: WritePrecondition | undefined;
}

export interface WireFilter {
  readonly path: string;
  readonly op: 'equal' | 'array-contains';
  readonly value: Value;
}

export interface WireQuery {
  readonly collection: string;
  readonly filters: readonly WireFilter[];
  /** The query is ordered by this field, then by name. */
  readonly orderBy: string;
  readonly direction: 'asc' | 'desc';
  /** The position of the last document of the previous page. */
  readonly after?: { readonly value: Value; readonly name: string } | undefined;
  readonly limit: number;
}

/** Token of a transaction. */
export type Transaction = Uint8Array;
