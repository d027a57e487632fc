// One way to declare a type of stored document: its collection, schema, format number, queries and lifetime. Its schema
// validates reads, its queries determine the indexes of the deployment, and the table of the data model is generated
// from it.
//
// Two versions of the gateway share a store during a deploy. So a read returns the stored object with all fields, also
// those that a newer version has added, and a write starts from the object that was read. A change that an older
// version cannot preserve in this way raises the format number; an instance that reads a newer number does not change
// the document and answers 503.
import { hash } from 'node:crypto';
import type { z } from 'zod';
import { RpcError } from '../errors.ts';
import type { Precondition, Query, Ref, Snapshot, Store } from './store.ts';

/** A query that the code sends: equality filters and the order. Firestore needs an index for each. */
export interface QueryShape {
  readonly where?: readonly string[];
  /** The array field of a filter `contains`. */
  readonly contains?: string;
  readonly orderBy: string;
  readonly direction?: 'asc' | 'desc';
}

type AnyShape = Omit<QueryShape, 'contains'> & { readonly contains?: string | undefined };

/**
 * How the documents of an owner (a key id) are found, to export and to erase them.
 * - `orderBy`: `owner` in the document is the owner; they are found in this order, which does not change.
 * - `idOf`: there is one, with this id.
 * - `session`: each belongs to a document of `conversations`, which is stored at least as long.
 * - `limits`: it stays when its owner is erased, and has no content.
 * - `deployment`: it is no owner's.
 */
export type Ownership =
  | { readonly orderBy: string }
  | { readonly idOf: (owner: string) => string }
  | 'session'
  | 'limits'
  | 'deployment';

export interface DocumentDefinition<Schema extends z.ZodObject> {
  readonly collection: string;
  /**
   * The fields that this version uses. No transforms and no defaults: a read returns the stored object. A field that
   * older versions did not write is `exactOptional`.
   */
  readonly schema: Schema;
  /** Default 1, which is not stored. */
  readonly format?: number;
  readonly queries?: readonly QueryShape[];
  readonly owned: Ownership;
  /** Fields that are never exported: secrets, also encrypted ones. */
  readonly secret?: readonly string[];
  /** For the table of the data model: the id, the content, the writers and the lifetime of the document. */
  readonly id: string;
  readonly holds: string;
  readonly writtenBy: string;
  readonly kept: string;
}

/** The type of a document that was read: it must not be modified in place. */
export type StoredAs<Schema extends z.ZodType> = DeepReadonly<z.output<Schema>>;

type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T;

export interface DocumentWrite<T extends object> {
  readonly ref: Ref;
  readonly data: T;
  readonly expireAtMs?: number;
  readonly if?: Precondition;
}

export interface DocumentType<T extends object> {
  readonly definition: DocumentDefinition<z.ZodObject>;
  ref(id: string): Ref;
  /**
   * The document of a snapshot; undefined when it is absent. Throws NewerFormat, or RpcError `internal` for a document
   * that does not match the schema (the cause names the field, without its content).
   */
  read(snapshot: Snapshot | undefined): T | undefined;
  /** Like `read`, but a document in a newer format counts as absent; for work that a newer instance can do instead. */
  readKnown(snapshot: Snapshot): T | undefined;
  write(ref: Ref, data: T, options?: Pick<DocumentWrite<T>, 'expireAtMs' | 'if'>): DocumentWrite<T>;
  /** Throws TypeError for a query that is not declared, because it would have no index in the cloud. */
  query(query: Omit<Query, 'collection'>): Query;
  /** Like `Store.watch`; a document that cannot be read is reported to `onError`, and the watch continues. */
  watch(store: Store, ref: Ref, listener: (data: T | undefined) => void, onError: (error: unknown) => void): () => void;
}

/** The document type of a declaration. */
export type DocumentOf<Type extends DocumentType<object>> = NonNullable<ReturnType<Type['read']>>;

/** A newer version of the gateway wrote this document in a format that this one does not understand. */
export class NewerFormat extends RpcError {
  constructor({ collection }: Ref) {
    super('unavailable', {
      message: 'Service unavailable: a newer version of the gateway has stored this, and an upgrade is under way',
      retryAfterMs: 5_000,
      cause: new Error(`a document of ${collection} has a newer format than this version of the gateway`),
    });
  }
}

export function defineDocument<Schema extends z.ZodObject>(
  given: DocumentDefinition<Schema>,
): DocumentType<StoredAs<Schema>> {
  type T = StoredAs<Schema>;
  const definition = { ...given, queries: [...(given.queries ?? []), ...ownerQueries(given.owned)] };
  const { collection, schema, format = 1, queries } = definition;
  // Objects that are already validated: a cached snapshot is not validated again at each use.
  const checked = new WeakSet<object>();
  const shapes = new Set(queries.map(shapeOf));

  const isValid = (data: object, ref: Ref): data is T => {
    if (checked.has(data)) return true;
    if ('format' in data && typeof data.format === 'number' && data.format > format) throw new NewerFormat(ref);
    const { error } = schema.safeParse(data);
    if (error !== undefined) throw unreadable(ref, error);
    checked.add(data);
    return true;
  };
  const read = ({ data, ref }: Snapshot): T | undefined =>
    data !== undefined && isValid(data, ref) ? data : undefined;

  return {
    definition,
    ref: (id) => ({ collection, id }),
    read: (snapshot) => (snapshot === undefined ? undefined : read(snapshot)),
    readKnown(snapshot) {
      try {
        return read(snapshot);
      } catch (error) {
        if (error instanceof NewerFormat) return undefined;
        throw error;
      }
    },
    write(ref, known, options) {
      const data = format === 1 ? known : { ...known, format };
      checked.add(data);
      return { ref, data, ...options };
    },
    query(query) {
      const { where = {}, contains } = query;
      if (!shapes.has(shapeOf({ ...query, where: Object.keys(where), contains: contains?.field }))) {
        throw new TypeError(`store: a query of ${collection} by ${query.orderBy} is not declared`);
      }
      return { collection, ...query };
    },
    watch(store, ref, listener, onError) {
      const onSnapshot = (snapshot: Snapshot): void => {
        let data: T | undefined;
        try {
          data = read(snapshot);
        } catch (error) {
          onError(error);
          return;
        }
        listener(data);
      };
      return store.watch(ref, onSnapshot, onError);
    },
  };
}

/** The id of a document of which an owner has one. */
export function hashOwner(owner: string): string {
  return hash('sha256', owner, 'base64url');
}

function ownerQueries(owned: Ownership): QueryShape[] {
  return typeof owned === 'object' && 'orderBy' in owned ? [{ where: ['owner'], orderBy: owned.orderBy }] : [];
}

function shapeOf({ where = [], contains = '', orderBy, direction = 'asc' }: AnyShape): string {
  return `${where.toSorted().join()} ${contains} ${orderBy} ${direction}`;
}

function unreadable({ collection, id }: Ref, error: z.ZodError): RpcError {
  const [issue] = error.issues;
  const where = issue === undefined ? '' : `: ${issue.path.join('.')} (${issue.code})`;
  return new RpcError('internal', { cause: new Error(`${collection}/${id} is not readable${where}`) });
}
