// The Store port: a small document store with optimistic transactions. Adapters handle documents, versions and
// preconditions only; the rules of the domain are in the modules that use the port. transact.ts has the retry rule.

/**
 * Collection and id of one document. `id` is 1..128 characters of [A-Za-z0-9_-]; names chosen by a caller must be
 * hashed. `collection` is a letter and up to 63 more of [A-Za-z0-9_-]. Every adapter refuses other values with
 * TypeError (document.ts).
 */
export interface Ref {
  readonly collection: string;
  readonly id: string;
}

/**
 * Opaque token of one state of one document; never reused for another state, also not after delete and create. A write
 * that does not change a document may keep its version (Firestore does), so two writers of the same bytes may both
 * succeed.
 */
export type Version = string;

/**
 * A value in a document: JSON without nested arrays (Firestore refuses them) and without `undefined`. Free-form JSON of
 * a caller is stored as a JSON string. Top-level `data` of a document is always a plain object of at most 1 000 000
 * bytes and 19 levels; field names are not empty, at most 1500 bytes and not `__x__`. `undefined` fields are dropped,
 * unpaired surrogates become U+FFFD; anything else outside these rules is refused with TypeError (document.ts).
 */
export type Value = string | number | boolean | null | readonly Value[] | { readonly [field: string]: Value };
export type Data = { readonly [field: string]: Value };

/**
 * A document as read. `data` is undefined when it is absent **or past its expiry** (TTL deletion may be a day late,
 * which readers must not notice); `version` is null only when nothing is stored at all, so an expired document can be
 * replaced safely.
 */
export interface Snapshot {
  readonly ref: Ref;
  /** Must not be modified: other reads of the same version may return the same object. */
  readonly data: object | undefined;
  readonly version: Version | null;
}

/** `absent`: nothing may be stored; `{version}`: exactly this state must be stored; omitted: unconditional. */
export type Precondition = 'absent' | { readonly version: Version };

export type Write =
  | {
      readonly ref: Ref;
      /** The complete document. */
      readonly data: object;
      /**
       * The data of the version that `if` requires, from which `data` was made: a top-level field with the same value
       * (`===`) has not changed. An adapter may send the other fields only.
       */
      readonly base?: object;
      readonly expireAtMs?: number;
      readonly if?: Precondition;
    }
  | { readonly ref: Ref; readonly delete: true; readonly if?: Precondition };

/**
 * Documents of one collection ordered by one field; ties are ordered by id in the same direction. Field names are
 * identifiers.
 */
export interface Query {
  readonly collection: string;
  /** Equality filters on top-level string fields. */
  readonly where?: Readonly<Record<string, string>>;
  /** A top-level field that is an array of strings and contains `value`. */
  readonly contains?: { readonly field: string; readonly value: string };
  /**
   * A top-level string or number field (numbers before strings, strings by code point); documents without it are not
   * returned.
   */
  readonly orderBy: string;
  readonly direction?: 'asc' | 'desc';
  /** Strictly after this position (the field's value and id of the last document seen). */
  readonly after?: { readonly value: string | number; readonly id: string };
  /** Also documents past their expiry that are still stored, with their data; for what must erase them. */
  readonly withExpired?: boolean;
  /** 1..1000. */
  readonly limit: number;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
  /** Milliseconds after which the call fails with `unavailable`; every adapter has a default of at most 10 s. */
  readonly timeoutMs?: number;
}

/**
 * Errors: `Conflict` when a precondition does not hold (nothing is written); RpcError `unavailable` when the store
 * cannot be reached or does not answer in time; the signal's reason when aborted. In the last two cases a commit may
 * have been applied; only a read can show that.
 */
export interface Store {
  /** An operation takes a round trip over the network. */
  readonly isRemote: boolean;
  get(refs: readonly Ref[], options?: CallOptions): Promise<Snapshot[]>;
  /**
   * All writes (1..500, each to another document) or none. Resolves to the new version of each write in order (null for
   * a delete).
   */
  commit(writes: readonly Write[], options?: CallOptions): Promise<(Version | null)[]>;
  query(query: Query, options?: CallOptions): Promise<Snapshot[]>;
  /**
   * Calls `listener` with the current state and then after every change, in order, until the returned function is
   * called. Of several changes in quick succession, only the last may be delivered; expiry is no change.
   */
  watch(ref: Ref, listener: (snapshot: Snapshot) => void, onError?: (error: unknown) => void): () => void;
  /**
   * Like `watch`, for a query: `listener` receives the complete result, now and after every change of a document in it.
   * Each watch uses a connection to the store, so share one among many readers, and keep `limit` small.
   */
  watchQuery(query: Query, listener: (snapshots: Snapshot[]) => void, onError?: (error: unknown) => void): () => void;
  /**
   * The fallback of `transact` under contention: reads under the adapter's lock (Firestore: a transaction), computes,
   * commits. `compute` must be pure: it may run several times.
   */
  lock<R>(
    refs: readonly Ref[],
    compute: (snapshots: Snapshot[]) => { readonly writes: readonly Write[]; readonly result: R },
    options?: CallOptions,
  ): Promise<R>;
  /** Resolves when the store answers; for the verbose health check. */
  ping(options?: CallOptions): Promise<void>;
  close(): Promise<void>;
}

/** A precondition did not hold. Thrown by adapters, handled by `transact`; it never reaches a caller of the gateway. */
export class Conflict extends Error {
  constructor(message = 'precondition failed', options?: ErrorOptions) {
    super(message, options);
    this.name = 'Conflict';
  }
}
