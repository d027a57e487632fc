// The rules of all adapters for ids, sizes and values of documents. They refuse documents that Firestore would refuse,
// so that the embedded store accepts the same ones.
import type { Data, Query, Ref, Value, Write } from './store.ts';

/** Writes in one commit. */
const WRITES_MAX = 500;
/**
 * Most bytes of one document, computed like Firestore does. Its limit is 1 MiB with the name; the difference is a
 * margin.
 */
const DOCUMENT_BYTES_MAX = 1_000_000;
/** Most levels of nested maps and arrays: Firestore allows 20, and the adapter's envelope is one. */
export const DEPTH_MAX = 19;

const COLLECTION = /^[A-Za-z][A-Za-z0-9_-]{0,63}$/;
export const ID = /^[A-Za-z0-9_-]{1,128}$/;
/** Names of fields in queries, which become part of an index expression. */
const QUERY_FIELD = /^[A-Za-z][A-Za-z0-9_]{0,63}$/;
const FIELD_BYTES_MAX = 1500;
/** ASCII, and not reserved: nearly all names. */
const PLAIN_FIELD = /^[a-z]\w{0,99}$/i;
/** Names that Firestore reserves; the rule also excludes `__proto__`. */
const RESERVED_FIELD = /^__.*__$/s;

/** Throws TypeError for an invalid collection or id. */
export function checkRef(ref: Ref): void {
  if (!COLLECTION.test(ref.collection)) throw new TypeError('store: collection name is not allowed');
  if (!ID.test(ref.id)) throw new TypeError(`store: id of a document in ${ref.collection} is not allowed`);
}

/** Throws TypeError for a commit with too many writes, an invalid id, or two writes of one document. */
export function checkWrites(writes: readonly Write[]): void {
  if (writes.length > WRITES_MAX) throw new TypeError(`store: more than ${WRITES_MAX} writes in one commit`);
  for (const write of writes) checkRef(write.ref);
  if (writes.length > 1 && new Set(writes.map((write) => refKey(write.ref))).size !== writes.length) {
    throw new TypeError('store: one commit writes a document twice');
  }
}

/** Throws TypeError for an invalid query. */
export function checkQuery(query: Query): void {
  if (!COLLECTION.test(query.collection)) throw new TypeError('store: collection name is not allowed');
  const contained = query.contains === undefined ? [] : [query.contains.field];
  for (const field of [query.orderBy, ...Object.keys(query.where ?? {}), ...contained]) {
    if (!QUERY_FIELD.test(field)) throw new TypeError('store: field of a query is not allowed');
  }
  if (!Number.isInteger(query.limit) || query.limit < 1 || query.limit > 1000) {
    throw new TypeError('store: limit of a query is not in 1..1000');
  }
}

/** One string per document; no collection name contains a slash. */
export function refKey(ref: Ref): string {
  return `${ref.collection}/${ref.id}`;
}

/**
 * The writes of a locking transaction: documents that were read under the lock need no precondition, other writes keep
 * theirs.
 */
export function withoutImpliedPreconditions(writes: readonly Write[], read: readonly Ref[]): Write[] {
  const locked = new Set(read.map(refKey));
  return writes.map((write) => {
    if (write.if === undefined || !locked.has(refKey(write.ref))) return write;
    const { if: _implied, ...rest } = write;
    if ('delete' in rest) return rest;
    // `base` belongs to the version that the precondition required.
    const { base: _base, ...whole } = rest;
    return whole;
  });
}

/**
 * The document as it will be read back: a copy without `undefined` (null in arrays), and with unpaired surrogates
 * replaced by U+FFFD, because no database stores them. Throws TypeError for values that are not JSON, for nested
 * arrays, for reserved (`__x__`) or empty field names, and for documents that are too deep or too large.
 */
export function toStored(data: object): Data {
  const budget = { bytes: DOCUMENT_BYTES_MAX };
  return storedMap(data, 1, budget);
}

interface Budget {
  bytes: number;
}

function stored(value: unknown, depth: number, budget: Budget, inArray: boolean): Value {
  switch (typeof value) {
    case 'string': {
      const text = value.isWellFormed() ? value : value.toWellFormed();
      charge(budget, Buffer.byteLength(text) + 1);
      return text;
    }
    case 'number':
      if (!Number.isFinite(value)) throw new TypeError('store: a number is not finite');
      charge(budget, 8);
      return value === 0 ? 0 : value;
    case 'boolean':
      charge(budget, 1);
      return value;
    case 'object':
      if (value === null) {
        charge(budget, 1);
        return null;
      }
      if (!Array.isArray(value)) return storedMap(value, depth + 1, budget);
      if (inArray) throw new TypeError('store: an array contains an array');
      return storedArray(value, depth + 1, budget);
    default:
      throw new TypeError(`store: a value of type ${typeof value} cannot be stored`);
  }
}

function storedMap(map: object, depth: number, budget: Budget): Data {
  checkDepth(depth);
  const prototype: unknown = Object.getPrototypeOf(map);
  if (prototype !== Object.prototype && prototype !== null) throw new TypeError('store: a value is not a plain object');
  const copy: Record<string, Value> = {};
  for (const [name, value] of Object.entries(map)) {
    if (value === undefined) continue;
    checkField(name, budget);
    copy[name] = stored(value, depth, budget, false);
  }
  return copy;
}

function storedArray(items: readonly unknown[], depth: number, budget: Budget): readonly Value[] {
  checkDepth(depth);
  return items.map((item) => stored(item ?? null, depth, budget, true));
}

function checkField(name: string, budget: Budget): void {
  const isPlain = PLAIN_FIELD.test(name);
  const bytes = isPlain ? name.length : Buffer.byteLength(name);
  if (!isPlain && (bytes === 0 || bytes > FIELD_BYTES_MAX || !name.isWellFormed() || RESERVED_FIELD.test(name))) {
    throw new TypeError('store: a field name is not allowed');
  }
  charge(budget, bytes + 1);
}

function checkDepth(depth: number): void {
  if (depth > DEPTH_MAX) throw new TypeError(`store: a document nests deeper than ${DEPTH_MAX}`);
}

function charge(budget: Budget, bytes: number): void {
  budget.bytes -= bytes;
  if (budget.bytes < 0) throw new TypeError(`store: a document is larger than ${DOCUMENT_BYTES_MAX} bytes`);
}
